package borgstore

// The few doors of the tests.
var (
	ErrorTable  = errorTable
	CheckName   = checkName
	CleanName   = cleanName
	ParseRange  = parseRange
	ParseQuery  = parseQuery
	ReadSources = readSources
	About       = about
	AppendEntry = appendEntry
)

const SpoolMemory = spoolMemory
