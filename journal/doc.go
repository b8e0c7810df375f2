// Package journal (to be written).
package journal
