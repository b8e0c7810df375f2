// Package blobstore stores blobs: immutable byte strings, which are found again by the
// Ref that committing them returned. It does not know repositories, keys or users.
//
// # Directories
//
//	incoming/<id>            blobs being written, and the second names of committed blobs until Settle
//	incoming/<id>.sums       checksums that will replace those of a blob
//	blobs/<00…ff>/<id>       committed blobs
//	blobs/<00…ff>/<id>.sums  the checksums of each blob's blocks
//
// An ID is 16 bytes, 48 bits of Unix milliseconds (big-endian) and 80 random bits; a
// file is named by its 32 hexadecimal digits. The shard of a blob is the last byte of its
// ID. Init creates all directories. Files with names of any other form are ignored.
//
// # Small blobs
//
// Where the caller has a log, blobs up to Options.Small bytes have no file: they stay in memory until the caller stores them in
// the log, in one record with its own of the ref, and are durable with it (Writer.Small). Here they are read again, by refs of
// another kind, whole and checked by the log. They have no marker, no checksums here and no label, and are not removed here: a
// segment of the log goes when nothing refers to a blob in it.
//
// # Commit order of a file
//
//	create incoming/<id>; from now on fsync incoming/, while the body comes
//	write the body to incoming/<id>
//	     … all of it is there …
//	wait for the fsync of incoming/
//	link incoming/<id> to blobs/<shard>/<id>; create and write blobs/<shard>/<id>.sums
//	fdatasync both files, and fsync blobs/<shard>/, all at the same time
//	     … Commit returns, the caller makes its own durable record of the Ref …
//	unlink incoming/<id> (Settle)
//
// The disk is waited for once, as the sync of incoming/ is over by the time at which a body of some size is there. What that
// order ensures is that nothing gets a name in a shard before its name in incoming/, its marker, is durable. So a file that a
// crash leaves in a shard, without a record of the caller and perhaps without all of its bytes, still has its marker, and Sweep
// finds it without reading the shards. For the same reason removing works in the reverse order: first the entries in the shard,
// durably, then the one in incoming/. Callers that wait for the sync of the same directory share one (groupSync). Who reads the
// shards without the caller's records (Walk) compares blobs with a marker with their BLAKE3.
//
// Assumptions about the disk: after a sync has returned nil, what was written before it is
// durable. After a failed sync nothing is known about what was written before, because the kernel
// may have dropped it: the store then refuses all changes until it is opened again (ErrFailed). A
// disk that reports a sync too early, and damage that occurs later, are detected when the bytes are read, not
// prevented.
//
// # Files of a blob, format 2
//
// The blob's file is the payload and nothing else, and is never written to again: it can be a hard link to a file that others
// have, too. What is known of it lies beside it, in a file of checksums. Integers are little-endian:
//
//	 0  magic          8 B   "PHSUMS\r\n"
//	 8  format         u16   1
//	10  flags          u16   1: the blob's file is of format 1, see below
//	12  header length  u32   64 and the length of the label, of at most 4096
//	16  payload size   u64   bytes
//	24  BLAKE3         32 B  of the payload
//	56  block size     u32   65536
//	60  label
//	    crc32c         u32   of the header before it
//
//	then a group for each 1024 blocks of the payload, the last one for what is left:
//	    crc32c         u32   of each block; the last block ends with the payload
//	    crc32c         u32   of the BLAKE3 of the payload, the number of the group (u32, from 0), and the checksums before it
//
// The groups let a reader check a few blocks of a large blob with two small reads, in bounded memory. The label is defined by
// the caller; an index can be rebuilt from the labels. Of every format, the first 16 bytes are as above, the header ends with
// the crc32c of what is before it, and has at most 8192 bytes: so a format that is not known is ErrNewer, never damage.
//
// Damage of the checksums, or their loss, says nothing of the payload: its BLAKE3 decides, which the caller has recorded, and
// Verify makes the checksums anew. A file without checksums whose BLAKE3 nobody has recorded is read as it lies.
//
// # Blob file, format 1
//
// Written until format 2, and read for ever. Such a blob gets its file of checksums by the first Verify. The trailer is at the
// end of the file:
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
// A file has exactly the length that its trailer says. A trailer that is whole and of another format is ErrNewer, and one that
// cannot be parsed is ErrCorrupt where nothing else says what the payload must be.
//
// # Reading
//
// Every read of a file checks the blocks that it touches before it hands out any of their bytes (Blob.ReadAt, Blob.Section). A
// block that is not what its checksum says is read and compared once more after the caller has verified the whole blob
// (Blob.OnDoubt), so that a read and a scrub never disagree. A blob of format 1 that has no checksums yet is read as it lies,
// but for a Section of all of it, whose last window comes only when the BLAKE3 is right. The bytes that are checked are those
// that are handed out, in memory of their own: what was checked in a mapping of the file may be read from the disk again before
// it is sent, and differ.
//
// Start reading at Writer.Commit (write.go).
package blobstore
