package borgstore

// What the tests reach of the package's insides.
var (
	ErrorTable    = errorTable
	CheckName     = checkName
	CleanName     = cleanName
	ParseRange    = parseRange
	ParseQuery    = parseQuery
	ReadSources   = readSources
	About         = about
	Plain         = plain
	AppendSeconds = appendSeconds
)

const BufferMemory = bufferMemory
