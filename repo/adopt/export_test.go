package adopt

// Key is that of the item which a file of a layout becomes.
func Key(layout, path string) string {
	if layout == layoutRestic {
		return restic{}.key(path)
	}
	return path
}
