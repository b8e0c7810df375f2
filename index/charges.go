package index

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Charges are what items and directories cost the index, whatever their sizes: 1 for each, and 1 more for each ChargeSize
// bytes of its row key. An exempt item costs nothing here. A limit of bytes does not count them, as clients are told the
// sum of the sizes; they have one of their own.

// ChargeSize is about how many bytes a charge stands for.
const ChargeSize = 512

// chargesRow is the row of the charges, among the counters. Where it is missing, in a file of an older format and its log,
// the charges are counted when the index is opened; the first commit then stores them.
var chargesRow = []byte{0x02}

const chargesV1 = 1

func encodeCharges(n int64) []byte {
	return binary.LittleEndian.AppendUint64(append(make([]byte, 0, 1+8), chargesV1), uint64(n))
}

func decodeCharges(b []byte) (int64, error) {
	f := fields{b: b}
	version, n := f.u8(), f.i64()
	if version != chargesV1 || !f.done() || n < 0 {
		return 0, damaged("charges")
	}
	return n, nil
}

// chargeOf is what a row of items costs.
func chargeOf(row []byte) int64 { return 1 + int64(len(row)/ChargeSize) }

// charge counts (sign +1) or no longer counts (-1) a row of items.
func (t *tx) charge(row []byte, sign int64) error {
	if t.charges += sign * chargeOf(row); t.charges < 0 {
		return damaged("charges")
	}
	return nil
}

// chargeItem is charge for the row of an item.
func (t *tx) chargeItem(row []byte, item *Item, sign int64) error {
	if item.Flags&FlagExempt != 0 {
		return nil
	}
	return t.charge(row, sign)
}

// keepCharges sets the row when all groups were evaluated.
func (t *tx) keepCharges() {
	t.put(t.counters, chargesRow, encodeCharges(t.charges))
	t.stand()
}

// setDir makes (created is not nil) or removes the row of a directory.
func (t *tx) setDir(row, created []byte) error {
	t.set(t.items, row, created)
	if created == nil {
		return t.charge(row, -1)
	}
	if bytes.IndexByte(row[:len(row)-1], separator) >= 0 {
		t.nested = true
	}
	return t.charge(row, +1)
}

// admitCharges holds what a mutation has added against its limit, 0: there is none. A group that adds nothing is admitted.
// beyond is for what completes an operation or takes a lock: it is admitted too, unless it makes directories below others,
// of which there would be no end.
func (t *tx) admitCharges(limit int64, beyond bool) error {
	if limit == 0 || t.charges <= limit || t.charges <= t.beganCharges || beyond && !t.nested {
		return nil
	}
	return ErrCharges
}

// admitPutCharges is admitCharges for a Put; mark is from before it.
func (t *tx) admitPutCharges(m *Put, mark int64) error {
	if m.Commit != nil && !m.Exempt {
		return t.admitClass(m.MaxCharges, m.Commit, mark)
	}
	return t.admitCharges(m.MaxCharges, m.Exempt)
}

// admitClass is admitCharges for an item of a class. Beyond the limit, its items together may cost as much as CommitBound
// allows them bytes.
func (t *tx) admitClass(limit int64, class *CommitClass, mark int64) error {
	err := t.admitCharges(limit, true)
	if err != nil || !errors.Is(t.admitCharges(limit, false), ErrCharges) {
		return err
	}
	items := int64(len(class.Keys))
	for _, dir := range class.Dirs {
		c, err := readCounters(t.counters, topRow(dir))
		if err != nil {
			return err
		}
		items += c.Items
	}
	if items > CommitBound(mark)/ChargeSize {
		return ErrCharges
	}
	return nil
}

// countCharges counts them in an index that has no row for them.
func countCharges(v *view) (n int64, err error) {
	c := v.Bucket(bucketItems).Cursor()
	for row, value := c.First(); row != nil; row, value = c.Next() {
		if isDirRow(row) || len(value) > 1 && Flags(value[1])&FlagExempt == 0 {
			n += chargeOf(row)
		}
	}
	return n, nil
}

// loadCharges takes the charges of the last commit, or counts them.
func (x *Index) loadCharges(v *view) (err error) {
	n := int64(0)
	switch value := v.Bucket(bucketCounters).Get(chargesRow); {
	case value != nil:
		n, err = decodeCharges(value)
	case !x.opts.ReadOnly && x.opts.Use != Hold:
		n, err = countCharges(v)
	}
	x.charges.Store(n)
	return err
}

// Charges are what items and directories cost, see ChargeSize, as of the last commit; 0 for an index that is opened for
// reading only and has not counted them yet. It takes no lock.
func (x *Index) Charges() int64 { return x.charges.Load() }
