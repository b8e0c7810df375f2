// Package journal keeps a log: records in segment files, appended by one writer at a time and read by any number. It knows
// bytes and positions. What records mean, and which of them still matter, is the caller's to know.
//
// A record is a body, which Replay gives back to the caller, and before it payloads, which are read by their positions.
// Records are appended in groups. A group is whole or absent after a crash, and there when Append has returned nil.
//
// # Files
//
//	<position>      a segment, named by 16 hexadecimal digits of the position at which it begins
//	<position>.new  one that is being made; it gets its name when its header is durable
//
// Names of any other form are nobody's business here.
//
// # Format 1
//
// Integers are little-endian, times are Unix nanoseconds. A segment that begins at position p covers p … p+size, and the
// next one begins at p+size: the byte at offset o of its file has position p+o. It begins with a block of 4096 bytes:
//
//	   0  magic      8 B   "PHLOG\r\n\x00"
//	   8  format     u32   1
//	  12  zeros      4 B
//	  16  identity   u64   of the log: random, the same in all its segments
//	  24  first      u64   p
//	  32  size       u64
//	  40  epoch      u64
//	  48  salt       u64   random
//	  56  previous   u64   salt of the segment before this one; 0 where the log began
//	  64  created    i64
//	  72  zeros
//	4092  crc32c     u32   of the 4092 bytes above
//
// An epoch is a part of the log in which each group was appended by a writer that knew all groups before it. A log that goes on
// behind groups that its writer may not know (Extend) is in the next epoch. All segments of one epoch follow each other, and
// epochs never go down.
//
// Every later format keeps magic, format and crc32c where they are, so that a newer log is told from a damaged one
// (ErrVersion).
//
// Records follow without gaps:
//
//	 0  magic      4 B   "\xa7PHr"
//	 4  kind       u8    0: the segment ends here, its rest is unused, the group goes on in the next one
//	 5  flags      u24   1: last of its group; 2: no body, the payloads are of the next record of the group whose kind
//	                     is not 0; 4: first of its group whose kind is not 0
//	 8  position   u64   of this record
//	16  group      u64   position where its group begins
//	24  epoch      u64   that of the segment
//	32  time       i64   when the group was completed
//	40  previous   u32   crc32c of the header of the record before it in the group; 0 in the first
//	44  payloads   u32   number of entries
//	48  size       u32   bytes of all entries
//	52  body       u32   bytes of the body
//	56  crc32c     u32   of the lengths and block sums of all entries; 0: there are none
//	60  crc32c     u32   of the body; 0: there is none
//	64  crc32c     u32   of the 64 bytes above
//	68  entries    each: length u32 | for each 64 KiB of the payload its crc32c u32 | the payload
//	    body
//
// The checksum of bytes at position p goes on from a seed, as if that were the crc32c of bytes before them: upper half xor
// lower half of salt + p × 0x9e3779b97f4a7c15 (for the sum of lengths and block sums p is the record's). So nothing passes
// that is of another segment, of a former use of the file or from another place. In a group, each record depends on the one before it by the
// field previous: parts of two groups that were written to the same place do not make a third.
//
// A record lies in one segment, and behind it is space for the one that ends the segment: a body has at most MaxRecord
// bytes, the segment's size less 4232. The payloads of one record may lie in several segments, as those of a group may.
//
// # Appending
//
//	write the group at the end of the log; fdatasync; Append returns
//
// A group that reaches into another segment is written and synced in both. A segment is there before anything is written
// that leads to it:
//
//	write the header to <position>.new; fdatasync; rename; fsync the directory
//
// Behind the end of the log some megabytes are set aside (fallocate) and filled with zeros, durably, in the background.
// fdatasync then neither changes the file's size nor converts extents: an append is a write in place. Measured on ext4 on a
// virtual disk: 3,000 writes of 8 KiB, each with its fdatasync, medians of three alternating rounds: 89 µs into zeros, 147 µs
// into what was only allocated, 178 µs into a file that grows; 134, 210 and 242 µs at 128 KiB; all the same at 512 KiB. That
// is worth its price, the second write. Appends in a row through this package, with the filling and without, medians of five
// alternating rounds beside other load: 167 and 313 µs at 8 KiB, 233 and 269 µs at 128 KiB, 1.3 and 2.1 ms for groups of 64
// records with 8 KiB. Where the file system cannot set space aside, files grow.
//
// A write that fails for lack of space has left anything of the group. Before Append returns ErrNoSpace the file ends again
// where the group began, durably, and the segments behind it are unlinked: they will be made anew with other salts. After
// any other error of a write, and every one of a sync, nothing is known of what was written, because the kernel may have
// dropped it: the log refuses all changes until it is opened again (ErrFailed).
//
// # Recovery
//
// Replay reads whole groups from a position on. Where a record does not verify, or is not the next one of its group, either
// the log was being written when it stopped, or it is damaged. A group is written before one sync, so that any part of its
// blocks may be there, and no group is begun before the one before it was synced. Therefore: if any header of a record
// verifies, further on in the segment or in a later one, whose group began behind the one that is not whole, then that one
// had been acknowledged. It is damage: it is reported with file and offset, and nothing is changed. Else it is a torn tail
// and dropped: the file is made to end where the group began, synced, and later segments are unlinked.
//
// Damage is also, whatever follows: what cannot be read; records behind a segment's header that does not verify, as the
// header was durable before the first of them; a segment that is missing behind a record that leads to it, for the same
// reason; a segment of another log, or that does not follow the one before it; a whole record that no append would have put
// there.
//
// What cannot be told: damage to the last group that was acknowledged looks like a torn tail if nothing was appended behind
// it. It is dropped. A caller that knows the end of the log from elsewhere sees that it is missing (ErrBeyondEnd, when it
// asks for a replay from there).
//
// Close makes the file end where the log does. After that, Replay has nothing to search.
//
// Salvage is for what Replay refuses: it finds the groups that are whole behind damage, behind lost headers and behind segments that are
// not there, and tells which of them follow each other.
//
// # What is assumed of the disk
//
// After a sync returned nil, what was written before it stays. A block of 512 bytes that is being written when the power
// fails holds its old bytes or its new ones: the block in which a group ends is written again with the group behind it. A
// disk that lies about syncs, and damage that comes later, are found by Replay and by reading, not prevented.
//
// Start reading at Group (group.go) and Log.Append (append.go), then walk (replay.go).
package journal
