package blobstore

// What the black-box tests reach of the package's insides.

const (
	FixedSize  = fixedSize
	MaxTrailer = maxTrailer
	MaxTries   = maxTries
)

var (
	AppendTrailer = appendTrailer
	ParseTrailer  = parseTrailer
)

// NewGroupSync returns the wait of a groupSync.
func NewGroupSync(sync func() error) func() error { return newGroupSync(sync).wait }

// RefOf is the reference to the blob in a file of that name.
func RefOf(name string) Ref {
	id, ok := parseName(name)
	if !ok {
		panic(name)
	}
	return id.ref()
}
