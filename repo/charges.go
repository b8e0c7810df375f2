package repo

import "packhouse/index"

// Items and directories cost something whatever their sizes: rows of the index, and large ones a file. So that a client
// cannot fill the disk with empty ones, there may be one for each index.ChargeSize bytes of the quota, and freeCharges
// more; likewise of items in the trash. What clients are told of the quota is the sum of the sizes, and what that admits is
// not less because of this: only for items that are smaller on average than index.ChargeSize this limit is reached first.

// freeCharges is how many items and directories there may be whatever the quota: clients make some hundred directories in
// an empty repository.
const freeCharges = 2048

// chargesFor is how many there may be with a limit of so many bytes; 0: any number, as there is no limit.
func chargesFor(limit int64) int64 {
	if limit < 0 {
		return 0
	}
	return limit/index.ChargeSize + freeCharges
}

// maxCharges is how many there may be, less those that the trash has beyond what it may have; 0: any number, negative: none.
func (a *Access) maxCharges() int64 {
	limit := chargesFor(a.limit())
	if limit == 0 {
		return 0
	}
	if a.r.grace.Load() > 0 {
		beyond, _ := a.beyondTrash()
		limit -= beyond.Items
	}
	if limit == 0 {
		return -1
	}
	return limit
}

// admitCharge refuses one more, before its body is read. The index tests it again. Before it refuses because of the trash,
// what may go of that gives way.
func (a *Access) admitCharge() error {
	for again := true; ; {
		most, charges := a.maxCharges(), a.r.index.Charges()+1
		switch beyond, _ := a.beyondTrash(); {
		case most == 0 || charges <= most:
			return nil
		case !again || charges > chargesFor(a.limit()):
			return a.chargesError()
		default:
			again = a.shrinkTrash(Emptied{Items: min(charges-most, beyond.Items)})
		}
	}
}

// chargesError tells with figures that there are too many items and directories, or too many items in the trash.
func (a *Access) chargesError() error {
	charges, most := a.r.index.Charges(), chargesFor(a.limit())
	if beyond, held := a.beyondTrash(); beyond.Items > 0 && charges < most {
		return &TrashError{Items: true, Trash: held.Items, Limit: a.trashItems()}
	}
	return &ChargesError{Charges: charges, Limit: most}
}
