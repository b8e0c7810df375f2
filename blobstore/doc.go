// Package blobstore stores blobs: immutable byte strings, which are found again by the
// Ref that committing them returned. It does not know repositories, keys or users.
//
// # Directories
//
//	incoming/<id>       blobs being written, and the second names of committed blobs until Settle
//	blobs/<00…ff>/<id>  committed blobs
//
// An ID is 16 bytes, 48 bits of Unix milliseconds (big-endian) and 80 random bits; a
// file is named by its 32 hexadecimal digits. The shard of a blob is the last byte of its
// ID. Init creates all directories. Files with names of any other form are ignored.
//
// # Small blobs
//
// Where the caller has a log, blobs up to Options.Small bytes have no file: they stay in memory until the caller stores them in the log,
// in one record with its own of the ref, and are durable with it (Writer.Small). Here they are read again, by refs of another
// kind, whole and checked by the log. They have no marker, no trailer and no label, and are not removed here: a segment of the log goes when nothing
// refers to a blob in it.
//
// # Commit order of a file
//
//	write incoming/<id>, trailer included
//	fdatasync the file, and at the same time fsync incoming/
//	link incoming/<id> to blobs/<shard>/<id>
//	fsync blobs/<shard>/
//	     … Commit returns, the caller makes its own durable record of the Ref …
//	unlink incoming/<id> (Settle)
//
// So a file that a crash leaves in a shard, without a record of the caller, still has its name in
// incoming/, and Sweep finds it without reading the shards. For the same reason removing works in
// the reverse order: first the entry in the shard, durably, then the one in incoming/. Callers that
// wait for the sync of the same directory share one (groupSync).
//
// Assumptions about the disk: after a sync has returned nil, what was written before it is
// durable. After a failed sync nothing is known about what was written before, because the kernel
// may have dropped it: the store then refuses all changes until it is opened again (ErrFailed). A
// disk that reports a sync too early, and damage that occurs later, are detected by Verify, not
// prevented.
//
// # Blob file, format 1
//
// Integers are little-endian. The trailer is at the end of the file:
//
//	payload, label, then 60 bytes:
//	 0  label length  u32   at most 4096
//	 4  payload size  u64   bytes
//	12  BLAKE3        32 B  of the payload
//	44  format        u16   1
//	46  flags         u16   0
//	48  crc32c        u32   of the label and of the 48 bytes above
//	52  magic         8 B   "PHBLOB\r\n"
//
// The payload begins at offset 0, so that it can be sent without copying. A file has exactly the
// length that its trailer says. A trailer that cannot be parsed is ErrCorrupt: a committed file was
// completely synced before it got its name in a shard, so there are no torn files.
// The label is defined by the caller; an index can be rebuilt from the labels.
//
// Start reading at Writer.Commit (write.go).
package blobstore
