// Package platform does not compile on systems on which the server does not run: whoever builds there is told so in one sentence,
// and not by names that are missing in some package. Packages that call Linux import it.
package platform
