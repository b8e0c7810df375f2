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
//	make directories and files in DIR.partial/tree: links where a blob is a whole file, clones where it cannot be linked, else copies
//	sync the file system
//	read all of it again, where that was asked for
//	rename DIR.partial/tree to DIR, and sync the directory above it
//	remove the mark and DIR.partial
//
// After a crash before the rename there is no DIR. Run makes the tree anew, because links and clones cost little; but copies that are worth it are made in
// DIR.partial/copies, synced, named for the bytes that they have, and linked into the tree: so the next Run finds those that are whole. A crash after the
// rename leaves DIR.partial with the mark, and with second names of copies.
//
// Locks and sessions are of use only to clients that work now, and are left out. Start reading at Run.
package export
