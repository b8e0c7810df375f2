package repo_test

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"packhouse/repo"
)

// model is what a repository should be, in the simplest terms.
type model struct {
	dialect string
	items   map[string]modelItem
	dirs    map[string]bool
	trash   []modelRow // what can be restored
	limit   int64
	grace   time.Duration
	now     time.Time
}

type modelItem struct {
	body   string
	exempt bool // from the quota
}

type modelRow struct {
	key     string
	item    modelItem
	expires time.Time
}

func (m *model) clone() model {
	c := *m
	c.items, c.dirs, c.trash = maps.Clone(m.items), maps.Clone(m.dirs), slices.Clone(m.trash)
	return c
}

func ephemeral(key string) bool {
	return strings.HasPrefix(key, "locks/") || strings.HasPrefix(key, "sessions/")
}

// discard takes the item from key, to be restored within the grace time.
func (m *model) discard(key string) {
	if m.grace > 0 && !m.items[key].exempt {
		m.trash = append(m.trash, modelRow{key, m.items[key], m.now.Add(m.grace)})
	}
	delete(m.items, key)
}

// advance moves the clock on.
func (m *model) advance(d time.Duration) {
	m.now = m.now.Add(d)
	m.trash = slices.DeleteFunc(m.trash, func(row modelRow) bool { return row.expires.Before(m.now) })
}

func parents(key string) []string {
	var all []string
	for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key[:i], '/') {
		all = append(all, key[:i])
	}
	return all
}

func (i modelItem) counted() int64 {
	if i.exempt {
		return 0
	}
	return int64(len(i.body))
}

// usage is what counts against the limit.
func (m *model) usage() (n int64) {
	for _, item := range m.items {
		n += item.counted()
	}
	return n
}

// exceeds tells whether usage is above the limit when it is more by so many bytes.
func (m *model) exceeds(more int64) bool { return m.limit >= 0 && m.usage()+more > m.limit }

// commitKey tells whether a client's next step depends on what it stores at key. The sizes here are far below the bound of those.
func (m *model) commitKey(key string) bool {
	var keys, dirs []string
	switch m.dialect {
	case "vger":
		keys, dirs = []string{"index", "index.gen", "manifest"}, []string{"locks", "sessions"}
	case "borgstore":
		keys, dirs = []string{"config/manifest"}, []string{"index", "cache", "locks", "sessions"}
	}
	top, _, below := strings.Cut(key, "/")
	return slices.Contains(keys, key) || below && slices.Contains(dirs, top)
}

// refuses tells whether storing an item at key is refused when usage is more by so many bytes then.
func (m *model) refuses(key string, more int64) bool {
	return more > 0 && m.exceeds(more) && !m.commitKey(key)
}

// holds tells whether key is a directory with items below it.
func (m *model) holds(key string) bool {
	for other := range m.items {
		if strings.HasPrefix(other, key+"/") {
			return true
		}
	}
	return false
}

// place makes key an item, where only directories without items may be.
func (m *model) place(key string, item modelItem) {
	maps.DeleteFunc(m.dirs, func(dir string, _ bool) bool { return dir == key || strings.HasPrefix(dir, key+"/") })
	m.items[key] = item
	m.makeParents(key)
}

// fits tells whether key may become an item.
func (m *model) fits(key string) error {
	if m.holds(key) {
		return repo.ErrIsDir
	}
	for _, p := range parents(key) {
		if _, ok := m.items[p]; ok {
			return repo.ErrNotDir
		}
	}
	return nil
}

func (m *model) put(key, body string) error {
	if m.holds(key) {
		return repo.ErrIsDir
	}
	item := modelItem{body, ephemeral(key)}
	if !item.exempt && m.refuses(key, item.counted()-m.items[key].counted()) {
		return repo.ErrQuota
	}
	if err := m.fits(key); err != nil {
		return err
	}
	if _, ok := m.items[key]; ok {
		m.discard(key)
	}
	m.place(key, item)
	return nil
}

// putNew is put by who may not overwrite.
func (m *model) putNew(key, body string) error {
	if old, ok := m.items[key]; ok && !m.dirs[key] {
		if old.body != body {
			return repo.ErrDenied
		}
		return nil
	}
	return m.put(key, body)
}

// plan replaces items by a new one, or does nothing.
func (m *model) plan(deletes []string, key, body string) error {
	c := m.clone()
	net := int64(len(body))
	for _, d := range append(deletes, key) {
		net -= c.items[d].counted()
		if _, ok := c.items[d]; ok {
			c.discard(d)
		}
	}
	if net > 0 && m.exceeds(net) {
		return repo.ErrQuota
	}
	for _, d := range deletes {
		if m.dirs[d] {
			return repo.ErrIsDir
		}
	}
	if err := c.fits(key); err != nil {
		return err
	}
	c.place(key, modelItem{body: body})
	*m = c
	return nil
}

func (m *model) restore(i int, key string) error {
	row := m.trash[i]
	if m.holds(key) {
		return repo.ErrIsDir
	}
	if _, ok := m.items[key]; ok {
		return repo.ErrExists
	}
	if err := m.fits(key); err != nil {
		return err
	}
	row.item.exempt = row.item.exempt && ephemeral(key)
	if !row.item.exempt && m.exceeds(row.item.counted()) {
		return repo.ErrQuota
	}
	m.trash = slices.Delete(m.trash, i, i+1)
	m.place(key, row.item)
	return nil
}

func (m *model) makeParents(key string) {
	for _, p := range parents(key) {
		m.dirs[p] = true
	}
}

func (m *model) remove(key string) error {
	if m.dirs[key] {
		return repo.ErrIsDir
	}
	if _, ok := m.items[key]; !ok {
		return repo.ErrNotFound
	}
	m.discard(key)
	return nil
}

func (m *model) move(from, to string) error {
	if m.dirs[from] {
		return repo.ErrIsDir
	}
	item, ok := m.items[from]
	if !ok {
		return repo.ErrNotFound
	}
	if from == to {
		return nil
	}
	if m.holds(to) {
		return repo.ErrIsDir
	}
	leaves := item.counted() > 0 && m.commitKey(from) && !m.commitKey(to)
	more := -m.items[to].counted()
	if item.exempt && !ephemeral(to) {
		item.exempt = false
		leaves = leaves || item.counted() > 0
		if more += item.counted(); more > 0 && m.exceeds(more) {
			return repo.ErrQuota
		}
	}
	if err := m.fits(to); err != nil {
		return err
	}
	for _, p := range parents(to) {
		if p == from {
			return repo.ErrNotDir
		}
	}
	if leaves && m.exceeds(more) {
		return repo.ErrQuota
	}
	if _, ok := m.items[to]; ok {
		m.discard(to)
	}
	delete(m.items, from)
	m.place(to, item)
	return nil
}

func (m *model) mkdir(key string) error {
	if _, ok := m.items[key]; ok {
		return repo.ErrNotDir
	}
	for _, p := range parents(key) {
		if _, ok := m.items[p]; ok {
			return repo.ErrNotDir
		}
	}
	m.dirs[key] = true
	m.makeParents(key)
	return nil
}

func (m *model) rmdir(key string) error {
	if _, ok := m.items[key]; ok {
		return repo.ErrNotDir
	}
	if !m.dirs[key] {
		return repo.ErrNotFound
	}
	for other := range m.items {
		if strings.HasPrefix(other, key+"/") {
			return repo.ErrNotEmpty
		}
	}
	for other := range m.dirs {
		if strings.HasPrefix(other, key+"/") {
			return repo.ErrNotEmpty
		}
	}
	delete(m.dirs, key)
	return nil
}

// level is one level below dir, sorted by name.
func (m *model) level(dir string) []string {
	found := map[string]string{}
	add := func(key, suffix string) {
		if dir != "" {
			if !strings.HasPrefix(key, dir+"/") {
				return
			}
			key = key[len(dir)+1:]
		}
		if !strings.Contains(key, "/") {
			full := key
			if dir != "" {
				full = dir + "/" + key
			}
			found[key] = full + suffix
		}
	}
	for key := range m.items {
		add(key, "")
	}
	for key := range m.dirs {
		add(key, "/")
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		names[i] = found[name]
	}
	return names
}
