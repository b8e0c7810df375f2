package api

import "fmt"

// CheckPasswordName tells whether a user of a password file can have a name.
func CheckPasswordName(name string) error {
	if !userNameForm.MatchString(name) || len(name) > maxUserName {
		return fmt.Errorf("%.100q cannot be a user's name, which is up to %d bytes of letters, digits, '@', '.', '_' and '-'", name, maxUserName)
	}
	return nil
}
