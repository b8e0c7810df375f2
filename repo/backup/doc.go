// Package backup writes a copy of a repository into a directory, in a form of its own, brings that up to date, reads it back, and makes a repository of
// it again.
//
// It promises that the directory has at each moment one complete state of the repository, that of the last Run that came to its end, whatever clients do
// meanwhile and wherever a later Run stops; and that a repository is restored whole or not at all. What was damaged in the repository is told by
// name, and what the directory has of the same bytes stays.
//
// # Directory
//
//	backup.json           which repository it is of; written first
//	lock                  locked (flock) by who writes, shared by who reads
//	items.jsonl.zst       the list: all items of the state (list.go); its rename is the moment in which a state becomes another
//	files/<00…ff>/<hash>  the bytes of an item, under their BLAKE3 in hexadecimal
//	new/                  what is being copied
//	damaged/              files that Run with Verify has found not to be what their names say
//
// A file is in files only when its bytes are durable: copies are written to new, synced, and renamed; links are of blobs that are. So what has the name and
// the size of an item is that item, and is not transferred again, also after a Run that did not come to its end.
//
// # Order of a Run
//
//	make the directory and backup.json, and lock
//	pin a state of the repository: no blob is removed until the end
//	link or copy what files does not have; every so many files sync the file system, and rename what was copied
//	sync the file system, see that the state is still pinned, and write and sync the list; rename it
//	remove the files that the list does not name, and what is left in new
//
// Locks and sessions are of use only to clients that work now; they are left out, and so are the history, jobs, and what is kept after compactions.
// What is in the trash is part of the state.
//
// Start reading at Run, then at Restore.
package backup
