// Package export writes the items of a repository into a directory that another server can serve: BorgStore's file backend, or vykar-server. It is
// the reverse of package adopt, which knows the layouts: the path of a file is the key of an item.
//
// It promises that a directory appears under its name only when it is complete and durable, with one state of the repository, whatever
// clients do meanwhile, and that no inode of a blob is changed: neither mode, nor owner, nor times. What was damaged is not in it, and is told by name.
//
// # Order
//
//	make the directory and the mark DIR.partial/export, and lock the mark
//	remove what an earlier run has left in DIR.partial/tree
//	pin a state of the repository: no blob is removed until the end
//	make directories and files in DIR.partial/tree: links where a blob is a whole file, copies where it is not, or cannot be linked
//	sync the file system
//	rename DIR.partial/tree to DIR, and sync the directory above it
//	remove the mark and DIR.partial
//
// After a crash before the rename there is no DIR, and Run begins anew; links cost little. A crash after it leaves DIR.partial with the mark alone.
//
// Locks and sessions are of use only to clients that work now, and are left out. Start reading at Run.
package export
