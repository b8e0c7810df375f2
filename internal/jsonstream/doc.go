// Package jsonstream reads one JSON text value by value, for lists and plans that clients send: of any length, in bounded memory, and
// refused where the first thing is wrong with them, with its position. It knows no list and no plan: the caller says which values it
// expects, and gives errors their status and further words.
//
// What it takes is JSON (RFC 8259) in UTF-8, and less than that where less is meant: names of members are taken as they are spelled,
// those that mean something may occur only once, and strings, numbers, white space and the depth of what is passed over have limits.
// Nothing is kept of the text but one string or number.
//
// encoding/json has no limit for a string, which json.Decoder keeps whole, and allocates each value of a stream. encoding/json/jsontext
// keeps strings whole, too, and all names of an object unless it takes any of them twice; before Go 1.27 it is an experiment.
//
// Start reading at Reader.
package jsonstream
