// Package adoption measures how fast the directory of another server becomes a repository: it makes a directory of BorgStore's layout, adopts
// it, and carries out a plain loop that links the same files, in turns, so that both see the same of what else the machine does.
// `packhouse bench adopt` calls it.
//
// Files are sparse: an adoption by links reads none of them. Nothing is dropped from the page cache: both find the names that the
// preparation has left there.
//
// Start reading at Workload.
package adoption
