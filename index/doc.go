// Package index stores the metadata of one repository's items: rows, in a log of
// what changed and in one bbolt file that follows the log. It is the commit point: a
// blob that no row refers to is unused, and a change has happened when its record in
// the log is on stable storage, not before.
//
// It guarantees that a group of mutations takes effect as a whole or not at all,
// that the counters change together with what they count, and that a reader sees
// one committed state. Of blobs it knows only the refs, and the bytes of small ones
// that callers store with their rows (Put.Payload); of quotas only the limit in a
// mutation, and of time only what callers pass.
//
// # Log, overlay and file
//
//	log/<position>  records of package journal: the rows of a group as they are after it (KindRows)
//	overlay         the rows of the log that the file does not have yet, in memory
//	index.db        all rows up to a position of the log, which is a row itself
//
// A commit evaluates the groups that wait on the overlay over the last snapshot of
// the file, appends one group of records with the rows that changed, and syncs once.
// Then the overlay that readers see has the rows, and the callers return. A record
// says what the rows are, not what was asked for: replaying it needs no
// preconditions, no clock and no policy, and may happen twice.
//
// A checkpoint writes the rows of the overlay into the file, sorted, with few large
// commits of bbolt: a commit of few rows writes nearly as many pages, and the list of
// free pages, each time. It runs when nothing was changed for a second, when the
// oldest row has waited for five, when there are 16,384 rows, and when the index is
// closed. The last of its commits moves the position up to which the file has the
// rows; after a crash before it the rows are read from the log again, as they were.
// Rows that wait are bounded in number and bytes (checkpoint.go): who adds to them
// then waits for the checkpoint. If a checkpoint cannot be made, because the disk is full
// or a page is damaged, the rows stay in the log, where they are as durable, and the next is made five seconds later.
//
// The file never becomes smaller by itself. When most of it is free, its rows are copied into a new one, which takes its place
// (rewrite.go).
//
// Opening reads the log from the position of the file to its end. A group that was
// being appended when the process or the machine stopped is dropped; damage in the
// middle, a missing segment, and a log that is older than the file or another's
// are ErrCorrupt. Opened for reading alone, nothing is written and the
// rows stay in memory.
//
// A file without the row "applied" has no log: one that was just made, one of an older
// format, one that was rebuilt. Opened to serve, it gets a new log, or goes on in a new
// segment behind what lies there.
//
// # Small items
//
// The bytes of an item that comes with them (Put.Payload) are in the group that has its row, and durable with it. Its ref says
// where they were written first. Relocate writes them again, under the same ref, and a row of bucket moved says where: the
// group also has the rows of the item, as they are. A group with payloads lies in one segment (Index.prepare). So each live
// item has its bytes and its rows in a segment that stays. A checkpoint unlinks a segment when the file has its rows and no ref
// leads to a payload in it.
//
// In each segment, the first group that lies in it alone has the meta values too. An index that is lost is made anew from a
// copy of its file and the log beside it (ReadLog).
//
// # History
//
// A change of an item for which the caller names a cause (Put.Cause and others) leaves a row that says when, who, what
// happened, and which refs the key had before and has since. The bytes of what was replaced are in the trash, under that ref,
// for as long as they are kept there. Rows are removed by ForgetChanges, from the oldest on. Their IDs count up by what each row
// costs, so that the first and the last row say what all of them cost (HistoryCharges), for a bound (Cause.MaxHistory). They are as durable as the change: both are in one
// group. A file that is made anew has those of the copy from which it is made, and of the log behind it.
//
// # Keys
//
// An item's key is a slash-separated name, 1 to 4096 bytes, without empty names
// and without bytes below 0x20. In the file each slash is a byte 0x00, and a
// directory is a row of its own whose key ends with 0x00. So a cursor visits the
// rows by name, level by level, a directory just before its children:
//
//	API         row key
//	a           a 00            the directory
//	a/b         a 00 b          an item in it
//	a/c         a 00 c 00       a directory in it
//	a/c/d       a 00 c 00 d
//	a!          a!              sorts after everything below a
//
// All that lies below directory d lies between d 00 and d 01: a listing of one
// level passes over a sub-directory with one seek. The root has no row. The
// parent directories of every row exist; only RemoveDir removes one.
//
// # Buckets
//
//	meta      0x00 "format"       -> format version u32 of the file, now 4
//	          0x00 "commit mark"  -> commit mark record; missing until an item of a CommitClass is stored
//	          <name>              -> meta record
//	items     <row key>           -> item record, or directory record if the key ends with 0x00
//	refs      <ref>               -> ref record; each ref occurs once, in an item, in the trash or among the kept
//	trash     <expiry u64 BE, Unix ms> <sequence u64 BE> -> trash record
//	counters  0x00                -> counters record, of the repository
//	          0x01 <name>         -> counters record, of a top-level directory; items of the root: empty name
//	locks     <id>                -> lock record
//	jobs      <id>                -> job record
//	writers   0x00                -> writer record, of the repository
//	          0x01 <principal>    -> writer record
//
// Since format 2, for compactions whose client has yet to store what refers to their outputs:
//
//	plans     <plan u64 BE>       -> plan record; a plan has at least one source
//	sources   <plan u64 BE> <row key> -> 0x01, for each item that is a source of the plan
//	kept      <expiry u64 BE, Unix ms> <sequence u64 BE> -> kept record
//	keptkeys  <row key>           -> key of the kept row, 16 B; a row key is in items or here, never in both
//
// Since format 3:
//
//	meta      0x00 "applied"      -> applied record: up to which position of which log the file has the rows
//	          0x00 "sequence " <bucket> -> sequence record: the last number given to a row of trash, plans or kept
//	segments  <first position u64 BE> -> segment record; a segment without a row has no payload that is referred to
//	moved     <ref>               -> moved record, for a payload that was written again in another place
//	movedto   <segment u64 BE> <offset u32 BE> -> ref, the reverse of moved
//	history   <sequence u64 BE>   -> change record, in the order of the commits
//
// Since format 4:
//
//	counters  0x02                -> charges record: what items and directories cost (charges.go); missing until the first commit
//
// A file of an older format is upgraded to format 4 when it is opened for writing, in one transaction: the new buckets,
// empty, the new format number, the sequences that bbolt kept, and for one of format 1 the number of damaged items in the
// counters.
//
// # Records
//
// Byte 0 of each record is its version. Integers are little-endian, times are
// signed counts since 1970 UTC (ms or µs). A field written <n>name is a length
// byte, or with <u16 n> a 16-bit length, and that many bytes. A record has
// exactly the length its fields give; anything else is ErrCorrupt.
//
//	item 1       version u8 | flags u8 | size i64 | created i64 ms | modified i64 ms | BLAKE3 32 B
//	             | <n>ref | <n>algorithm | <n>sum | <n>writer
//	item 2       as item 1, and | plan u64 | found i64 ms; no plan: 0, never found: the smallest i64; not both.
//	             An item without them is written as item 1
//	directory 1  version u8 | created i64 ms
//	ref 1        version u8 | 0 u8 | row key of the item
//	             version u8 | 1 u8 | key of the trash row, 16 B
//	             version u8 | 2 u8 | key of the kept row, 16 B
//	ref 2        version u8 | 0 u8 | FNV-1a of the row key, u64: of an item whose blob is no payload of the log
//	trash 1      version u8 | removed i64 ms | <u16 n>key, with slashes | item record
//	counters 1   version u8 | items i64 | bytes i64 | exempt i64 | trash items i64 | trash bytes i64
//	counters 2   as counters 1, and | plans i64 | open bytes i64 | returned bytes i64 | kept items i64 | kept bytes i64;
//	             where all of them are 0, counters 1 is written
//	counters 3   as counters 2, and | missing items i64 | missing bytes i64 | damaged items i64;
//	             where all of these are 0, one of the others is written
//	counters 4   as counters 3, and | unverified items i64 | unverified bytes i64 | changes i64; likewise
//	charges 1    version u8 | charges i64
//	lock 1       version u8 | acquired i64 µs | since i64 µs | TTL i64 ns | <u16 n>holder | <u16 n>data
//	writer 1     version u8 | last backup i64 ms
//	meta 1       version u8 | value
//	commit mark 1  version u8 | bytes i64
//	job 1        version u8 | record
//	plan 1       version u8 | at i64 ms | live i64 | sources i64 | bytes i64 | <u16 n>principal | <u16 n>address
//	             | <u16 n>lock | <u16 n>job
//	applied 1    version u8 | position u64 | identity of the log u64
//	sequence 1   version u8 | number u64
//	segment 1    version u8 | payloads i64 | bytes i64
//	moved 1      version u8 | segment u64 BE | offset u32 BE | length u32
//	change 1     version u8 | kind u8 | at i64 ms | <u16 n>key | <u16 n>from | <n>ref | <n>before | <n>principal | <n>address | <u16 n>job
//	kept 1       version u8 | 1 u8 if a plan was proven, else 0 | <u16 n>who calls it unused | trash record
//
// In the log, the bodies of the records of a group are one text:
//
//	rows 1       version u8 | rows u32, each: bucket u8 | <u16 n>row key | <u32 n>value
//	             with 0x80 added to the bucket: the row is deleted, and there is no value
//	             Buckets are numbered from 1 in the order above: meta, items, refs, trash, counters, locks, jobs, writers, plans,
//	             sources, kept, keptkeys, segments, moved, movedto, history
//
// A program that writes a record of a new version gives the file a new format first: an unknown version of a record in a file
// of a known format is damage, and a file of an unknown format is a newer program's, and refused as such.
//
// testdata holds each record of each version, and a whole file of each format.
//
// # Failure
//
// The log says of itself what a crash may leave (package journal). bbolt never
// overwrites a page that the last commit uses, so after a crash that commit is intact. Readers see a commit when it is on stable storage, not when it
// is written. After a write or sync error the page cache may differ from the disk:
// the index then refuses every change (ErrFailed) until it is opened again, and
// readers continue with the state before the change whose outcome is unknown. If
// the disk is full before anything was committed, only that transaction fails.
//
// After each commit, and before it is acknowledged, the index checks that the file at its path is still the open one. If it was
// moved, removed or replaced, the commit is not acknowledged, and the index accepts no others (ErrMoved).
//
// # Damage
//
// bbolt does not validate its file: a branch page that leads to itself ends the process, an element makes it allocate any
// amount of memory, and a page that cannot be read while a transaction begins leaves mutexes locked. Therefore this package
// checks each page before bbolt uses it. page.go has the part of bbolt's format that it reads itself.
//
//	Open     structureCheck: meta pages, list of free pages, all branch pages, with reads of the file
//	readers  state, tree, cursor: read the mapping themselves; each page is compared with its parent
//	writing  guard: checks in advance what bbolt will read, including the neighbours of pages that become small
//	Check    structureCheck of every page, then the rows
//
// One goroutine at a time calls bbolt, for a checkpoint; readers and the commit loop use a snapshot that it publishes. Damage of a page is ErrCorrupt for requests
// that need it, and is recorded (Damage). If bbolt still encounters a fault, it is not called again, and Close releases
// lock, file and mapping without it. If the last commit cannot be read then, the index can no longer be used (Lost).
//
// Start reading at Index.Apply (commit.go), and at List for how readers see it.
package index
