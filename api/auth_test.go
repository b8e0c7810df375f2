package api_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"packhouse/api"
	"packhouse/repo/policy"
)

func TestNewAuthRefuses(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		o    api.AuthOptions
		want string
	}{
		"nothing":           {api.AuthOptions{}, "no user and no token"},
		"empty token":       {api.AuthOptions{Tokens: []api.Token{{Name: "t"}}}, "is empty"},
		"empty password":    {api.AuthOptions{Users: []api.User{{Name: "u"}}}, "empty password"},
		"no user name":      {api.AuthOptions{Users: []api.User{{Password: "p"}}}, "user name"},
		"colon":             {api.AuthOptions{Users: []api.User{{Name: "u:v", Password: "p"}}}, "user name"},
		"password and hash": {api.AuthOptions{Users: []api.User{{Name: "u", Password: "p", Hash: string(hash)}}}, "both"},
		"no hash":           {api.AuthOptions{Users: []api.User{{Name: "u", Hash: "p"}}}, "not a bcrypt hash"},
		"open and closed":   {api.AuthOptions{NoAuth: true, Tokens: []api.Token{{Secret: "s"}}}, "cannot be combined"},
	}
	for name, tt := range tests {
		if _, err := api.NewAuth(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, tt.want)
		}
	}
	_, err = api.NewAuth(api.AuthOptions{Tokens: []api.Token{{}}, Users: []api.User{{Name: "u"}}})
	if err == nil || !strings.Contains(err.Error(), "token 1") || !strings.Contains(err.Error(), `user "u"`) {
		t.Errorf("two faults: got %v, want both", err)
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestAuthenticate(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("hashed password"), bcrypt.MinCost+1)
	if err != nil {
		t.Fatal(err)
	}
	readOnly, err := policy.New(map[string]string{"": "lr"})
	if err != nil {
		t.Fatal(err)
	}
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{
		Now:    clock.Now,
		Tokens: []api.Token{{Name: "token", Secret: "secret"}, {Name: "reader", Secret: "other", Permissions: readOnly}},
		Users:  []api.User{{Name: "u", Password: "p:ü"}, {Name: "h", Hash: string(hash)}},
	})})
	tests := []struct {
		header    string
		principal string // "": 401
	}{
		{"Bearer secret", "token permissions=null"},
		{"bearer secret", "token permissions=null"},
		{"Bearer   secret ", "token permissions=null"},
		{"Bearer other", `reader permissions={"":"lr"}`},
		{basic("anyone", "secret"), "token permissions=null"},
		{basic("", "secret"), "token permissions=null"},
		{basic("u", "p:ü"), "u permissions=null"},
		{strings.TrimRight(basic("u", "p:ü"), "="), "u permissions=null"},
		{basic("h", "hashed password"), "h permissions=null"},
		{basic("h", "hashed password"), "h permissions=null"}, // remembered
		{"", ""},
		{"Bearer", ""},
		{"Bearer wrong", ""},
		{"Bearer p:ü", ""},
		{"secret", ""},
		{"Digest secret", ""},
		{basic("u", "p"), ""},
		{basic("u", ""), ""},
		{basic("v", "p:ü"), ""},
		{basic("h", string(hash)), ""},
		{basic("u", "hashed password"), ""},
		{"Basic u:p", ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("secret")), ""},
	}
	for _, tt := range tests {
		clock.advance(time.Hour) // nobody is slowed down
		response, body := get(t, f.Addr, "GET", "/r", "Authorization", tt.header)
		if tt.principal == "" {
			if response.StatusCode != 401 || body != "Unauthorized" || response.Header.Get("Www-Authenticate") == "" {
				t.Errorf("%q: got %d %q, want 401", tt.header, response.StatusCode, body)
			}
			continue
		}
		if response.StatusCode != 200 || !strings.HasSuffix(body, "principal="+tt.principal) {
			t.Errorf("%q: got %d %q, want %s", tt.header, response.StatusCode, body, tt.principal)
		}
	}
	if log := f.Logged(t); strings.Contains(log, "secret") || strings.Contains(log, "Basic") {
		t.Errorf("the log has a secret: %s", log)
	}
}

type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Who fails too often is slowed down, by address; others, and secrets that cannot be guessed, are not.
func TestThrottle(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	strong := strings.Repeat("s", 32)
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{
		Now: clock.Now, Tokens: []api.Token{{Name: "strong", Secret: strong}}, Users: []api.User{{Name: "u", Password: "p"}},
	})})
	from := func(address, authorization string) int {
		t.Helper()
		// The test's connections come from this machine, whose proxy may name the client.
		response, _ := get(t, f.Addr, "GET", "/r", "Authorization", authorization, "X-Forwarded-For", "198.51.100.1, "+address)
		if response.StatusCode == http.StatusTooManyRequests && response.Header.Get("Retry-After") == "" {
			t.Errorf("429 without Retry-After")
		}
		return response.StatusCode
	}
	tries := 0
	for ; tries < 100 && from("192.0.2.1", basic("u", "wrong")) == 401; tries++ {
	}
	if tries < 5 || tries > 20 {
		t.Errorf("%d wrong passwords before the address was slowed down", tries)
	}
	tests := []struct {
		name, address, authorization string
		status                       int
	}{
		{"the right password from there", "192.0.2.1", basic("u", "p"), 429},
		{"a strong token from there", "192.0.2.1", "Bearer " + strong, 200},
		{"no credentials from there", "192.0.2.1", "", 401},
		{"another address", "192.0.2.2", basic("u", "p"), 200},
		{"another address, wrong", "192.0.2.2", basic("u", "wrong"), 401},
	}
	for _, tt := range tests {
		if got := from(tt.address, tt.authorization); got != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.status)
		}
	}
	clock.advance(3 * time.Second)
	if got := from("192.0.2.1", basic("u", "p")); got != 200 {
		t.Errorf("the right password a little later: got %d, want 200", got)
	}
	if got := from("192.0.2.1", basic("u", "wrong")); got != 401 {
		t.Errorf("a failure after success: got %d, want 401", got)
	}
	// An IPv6 client has a whole network of addresses.
	for tries = 0; tries < 100 && from("2001:db8::"+itoa(tries), basic("u", "wrong")) == 401; tries++ {
	}
	if tries == 100 {
		t.Errorf("addresses of one IPv6 network are not taken together")
	}
	if got := from("2001:db8:1::1", basic("u", "p")); got != 200 {
		t.Errorf("another network: got %d, want 200", got)
	}
}

// A password that its owner uses cannot be tried from elsewhere more often than another: what is remembered of it
// counts for the owner's address alone. The owner does not suffer from wrong tries of others behind that address.
func TestThrottleOfPasswordsInUse(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]api.AuthOptions{
		"hash":  {Users: []api.User{{Name: "u", Hash: string(hash)}}},
		"plain": {Users: []api.User{{Name: "u", Password: "right"}}},
		"token": {Tokens: []api.Token{{Name: "t", Secret: "right"}}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &fakeClock{now: time.Unix(1e9, 0)}
			o.Now = clock.Now
			f := startEcho(t, api.Options{Auth: newAuth(t, o)})
			from := func(address, password string) int {
				t.Helper()
				response, _ := get(t, f.Addr, "GET", "/r", "Authorization", basic("u", password), "X-Forwarded-For", address)
				return response.StatusCode
			}
			exhaust := func(address string) {
				t.Helper()
				for range 50 {
					if from(address, "wrong") == 429 {
						return
					}
				}
				t.Fatalf("%s was never slowed down", address)
			}
			const owner, stranger = "192.0.2.1", "192.0.2.2"
			if got := from(owner, "right"); got != 200 {
				t.Fatalf("the owner: got %d, want 200", got)
			}
			exhaust(stranger)
			if got := from(stranger, "right"); got != 429 {
				t.Errorf("one guess too many, right: got %d, want 429", got)
			}
			exhaust(owner)
			if got := from(owner, "right"); got != 200 {
				t.Errorf("the owner after wrong tries of others: got %d, want 200", got)
			}
			clock.advance(time.Hour)
			exhaust(owner)
			if got := from(owner, "right"); got != 429 {
				t.Errorf("an hour later: got %d, want 429", got)
			}
		})
	}
}

// A proxy's spelling of an address does not matter.
func TestThrottleSpellings(t *testing.T) {
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Users: []api.User{{Name: "u", Password: "p"}}})})
	for i := range 100 {
		// A zone may be any text.
		address := "::ffff:192.0.2.1%" + itoa(i)
		if i < 5 {
			address = "192.0.2.1"
		}
		response, _ := get(t, f.Addr, "GET", "/r", "Authorization", basic("u", "wrong"), "X-Forwarded-For", address)
		if response.StatusCode == 429 {
			return
		}
	}
	t.Error("100 wrong passwords from one address in many spellings: it was not slowed down")
}

// Many clients behind one address that all come at once with the right passwords are all let in.
func TestThrottleRightOnes(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), 6)
	if err != nil {
		t.Fatal(err)
	}
	var users []api.User
	for i := range 40 {
		users = append(users, api.User{Name: "u" + itoa(i), Hash: string(hash)})
	}
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Users: users})})
	var wait sync.WaitGroup
	for _, u := range users {
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Name+":right"))
		wait.Go(func() {
			if response, body := get(t, f.Addr, "GET", "/r", "Authorization", basic); response.StatusCode != 200 {
				t.Errorf("%s: got %d %s", u.Name, response.StatusCode, body)
			}
		})
	}
	wait.Wait()
}

// Wrong tries with one name do not cost another name that is right, from the same address; nor do those with many names, if it
// has been right before. Tokens that can be guessed are tried no more often under many names.
func TestThrottleIsByName(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{
		Now: clock.Now, Tokens: []api.Token{{Name: "weak", Secret: "guess"}},
		Users: []api.User{{Name: "plain", Password: "right"}, {Name: "hashed", Hash: string(hash)}, {Name: "early", Password: "right"}},
	})})
	try := func(name, password string) int {
		t.Helper()
		response, _ := get(t, f.Addr, "GET", "/r", "Authorization", basic(name, password))
		return response.StatusCode
	}
	if got := try("early", "right"); got != 200 {
		t.Fatalf("got %d", got)
	}
	for range 30 {
		try("mallory", "wrong")
	}
	if got := try("mallory", "wrong"); got != 429 {
		t.Errorf("mallory: got %d, want 429", got)
	}
	for _, name := range []string{"plain", "hashed"} {
		if got := try(name, "right"); got != 200 {
			t.Errorf("%s beside mallory: got %d, want 200", name, got)
		}
	}
	for i := range 60 {
		for range 3 {
			try("mallory"+itoa(i), "wrong")
		}
	}
	clock.advance(time.Hour) // what was verified counts no more
	refused := 0
	for i := range 60 {
		for range 12 {
			if try("mallory"+itoa(i), "wrong") == 429 {
				refused++
			}
		}
	}
	if refused < 500 {
		t.Errorf("of 720 tries with 60 names %d were refused", refused)
	}
	if got := try("early", "right"); got != 200 {
		t.Errorf("who was right before: got %d, want 200", got)
	}
	if got := try("somebody", "guess"); got != 429 {
		t.Errorf("the token, guessed once too often: got %d, want 429", got)
	}
}

// An address is suspect for a while after a wrong password, and after a right one it is not.
func TestSuspectAddress(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	auth := newAuth(t, api.AuthOptions{Now: clock.Now, Users: []api.User{{Name: "u", Hash: string(hash)}}})
	f := startEcho(t, api.Options{Auth: auth})
	for _, step := range []struct {
		password string
		advance  time.Duration
		want     bool
	}{{"right", 0, false}, {"wrong", 0, true}, {"right", time.Minute, true}, {"right", time.Hour, false}} {
		clock.advance(step.advance)
		get(t, f.Addr, "GET", "/r", "Authorization", basic("u", step.password))
		if got := auth.Suspect("127.0.0.1"); got != step.want {
			t.Errorf("after %q: suspect %t, want %t", step.password, got, step.want)
		}
	}
}

// The memory for addresses, and for the names of one, is bounded.
func TestThrottleForgets(t *testing.T) {
	if n := api.ThrottleEntries(20000); n > 4096 {
		t.Errorf("20,000 addresses: %d are kept, want at most 4096", n)
	}
	if n := api.ThrottleNames(2000); n != 16+64 {
		t.Errorf("2,000 names, half of them right: %d are kept, want 80", n)
	}
}

func TestSetAuth(t *testing.T) {
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Secret: "old"}}})})
	f.Server.SetAuth(newAuth(t, api.AuthOptions{Tokens: []api.Token{{Secret: "new"}}}))
	if response, _ := get(t, f.Addr, "GET", "/r", "Authorization", "Bearer old"); response.StatusCode != 401 {
		t.Errorf("old token: got %d, want 401", response.StatusCode)
	}
	if response, _ := get(t, f.Addr, "GET", "/r", "Authorization", "Bearer new"); response.StatusCode != 200 {
		t.Errorf("new token: got %d, want 200", response.StatusCode)
	}
}
