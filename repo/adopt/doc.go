// Package adopt makes a repository of the directory of another server without copying bytes: each file gets a second name in the blob
// store. It knows the directories of BorgStore's file backend and of vger-server and vykar-server, each in a file of its own.
//
// It promises that the source is not changed: no file of it is written, and neither mode, nor owner, nor times of one. Only the number of
// its names, and so the time of that change, are others afterwards. It promises also that there is no repository before all of it is
// there: the index gets its name last.
//
// # Order
//
//	look at all of the source, and try what only the kernel knows; what cannot be taken in is told, and nothing was changed
//	make the directory and the mark "index.db.adopting", durably
//	sync the file system of the source, whose server may not have done so
//	write the list of adopted files, durably: which file becomes which blob, under which key
//	link the files to the shards, and sync the shards; meanwhile, make the index of those that are there (package recovery)
//	give the index its name
//	remove the mark
//
// The source is one open directory from the first look to the last link (vfs.Tree), and no symbolic link in it is followed: who may write to it cannot lead
// an adoption, which may run as root, to files elsewhere.
//
// From the mark on, the directory is neither free nor a repository, and requests to it are refused for now. After a crash Run does all of
// it again: it looks anew, and the files that are as the list has them keep their refs, so that what was linked or copied stays. Until a scrub
// has read it, an item has the flag index.FlagUnverified, and a lost index is made again from the same list.
//
// It does not know how a repository is used, nor which directories are repositories. Start reading at Run.
package adopt
