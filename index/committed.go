package index

import (
	"bytes"
	"fmt"
)

// committed is what of a state is kept to know it again, in memory of its own but for the pages of trees.
type committed struct {
	meta
	free     freelist
	rootRows []byte // of the root bucket
	trees    map[string]*tree
}

// check holds what is read of the last commit now against what it was when it was made, as bbolt follows it blindly: with an older
// leaf of the root bucket it would change trees of which all pages are right, and free; with another size of the list of
// free pages it would use again what follows the list.
func (c *committed) check(last *committed) error {
	switch {
	case !bytes.Equal(c.rootRows, last.rootRows):
		return fmt.Errorf("%w: the root bucket is not that of transaction %d any more", ErrCorrupt, last.txid)
	case c.free != last.free:
		return damagedFreelist("%d pages up to page %d, and were %d up to page %d", c.free.count, c.free.last, last.free.count, last.free.last)
	}
	return nil
}
