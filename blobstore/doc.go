// Package blobstore keeps blobs: immutable byte strings, found again by the
// Ref that committing them returned. It knows nothing of repositories, keys or users.
//
// # Directories
//
//	incoming/<id>       blobs being written, and the second name of those not yet settled
//	blobs/<00…ff>/<id>  committed blobs
//
// An ID is 16 bytes, 48 bits of Unix milliseconds (big-endian) and 80 random bits; a
// file is named by its 32 hexadecimal digits. The shard of a blob is the last byte of its
// ID. All directories are made by Init. Names of any other form are nobody's
// business here: they are left alone.
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
// So whatever a crash leaves in a shard without a record of the caller still has its
// name in incoming/, and Sweep finds it without looking at the shards. Removing goes the other
// way for the same reason: the shard's entry first, and durably, then the one in incoming/.
// The syncs of a directory are shared among all who wait for one (groupSync).
//
// What is assumed of the disk: after a sync returned nil, what was written
// before it stays. After one that failed nothing is known of what was written before,
// because the kernel may have dropped it: the store then refuses all changes until it is
// opened again (ErrFailed). A disk that lies about syncs, and damage that
// comes later, are found by Verify, not prevented.
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
// The payload begins at offset 0, so that it can be sent as it lies. A file is exactly as long as
// its trailer says. A trailer that does not parse is ErrCorrupt: a committed file
// was synced whole before it got its name in a shard, so that no torn one can be there.
// The label is the caller's; it is what an index can be rebuilt from.
//
// Start reading at Writer.Commit (write.go).
package blobstore
