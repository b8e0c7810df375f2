package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
)

// TestDeployedConfiguration: the file we ship is right, also with all that is commented out.
func TestDeployedConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "packhouse.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("packhouse.toml", text, nil); err != nil {
		t.Error(err)
	}
	all := regexp.MustCompile(`(?m)^# (\[|[a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	all = strings.ReplaceAll(strings.ReplaceAll(all, `"$2y$10$…"`, `"`+hashOf(t, "x")+`"`), `"…"`, `"t"`)
	all = strings.ReplaceAll(all, `"0123…"`, `"`+strings.Repeat("0", 32)+`"`)
	c, err := config.Parse("packhouse.toml", []byte(all), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Users) != 1 || len(c.Repositories) != 1 || len(c.Alerts) != 1 || c.Token != "t" || c.DataID == "" {
		t.Errorf("not all examples were switched on: %+v", c)
	}
}

// TestDeployedSocket: the commands that are printed make the user and the group of the socket before they start it, and
// put the user that each proxy runs as into that group, which may read nothing else of ours.
func TestDeployedSocket(t *testing.T) {
	read := func(parts ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	unit := make(map[string]string) // the last value of each setting
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(read("deploy", "packhouse.socket"), -1) {
		unit[m[1]] = m[2]
	}
	user, group, socket := unit["SocketUser"], unit["SocketGroup"], unit["ListenStream"]
	if unit["SocketMode"] != "0660" || group == user || !strings.HasPrefix(socket, "/run/") {
		t.Errorf("got %v", unit)
	}
	for file, address := range map[string]string{"nginx.conf": "server unix:" + socket + ";", "Caddyfile": "reverse_proxy unix/" + socket + " {"} {
		if !strings.Contains(read("deploy", file), address) {
			t.Errorf("deploy/%s does not have %q", file, address)
		}
	}
	for _, document := range []struct {
		path    []string
		proxies []string // the users that Debian's packages run them as
	}{
		{[]string{"README.md"}, []string{"www-data"}},
		{[]string{"docs", "deployment.md"}, []string{"www-data", "caddy"}},
	} {
		before, after, ok := strings.Cut(read(document.path...), "\nsystemctl enable --now packhouse.socket")
		if !ok {
			t.Errorf("%v: does not start the socket", document.path)
		}
		for _, command := range []string{`useradd --system .*` + user, `groupadd --system ` + group} {
			if !regexp.MustCompile(`(?m)^` + command + `\b( +#.*)?$`).MatchString(before) {
				t.Errorf("%v: no %q before the socket is started", document.path, command)
			}
		}
		for _, proxy := range document.proxies {
			if !strings.Contains(after, "\nusermod --append --groups "+group+" "+proxy+"\n") {
				t.Errorf("%v: %s is not put into group %s", document.path, proxy, group)
			}
		}
	}
}

// TestDeployedService: a system call that the unit does not allow fails. The default is to kill the server for it.
func TestDeployedService(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "packhouse.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"SystemCallFilter=@system-service cachestat", "SystemCallErrorNumber=EPERM"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

// TestDocumentedSettings: docs/configuration.md has every flag and every variable.
func TestDocumentedSettings(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(serveCommand(streams{}).UsageString(), -1) {
		if !strings.Contains(string(text), flag) && flag != "--help" {
			missing = append(missing, flag)
		}
	}
	for _, name := range append(tokenVariables, idleVariable, configVariable, serverVariable) {
		if !strings.Contains(string(text), "`"+name+"`") {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("docs/configuration.md lacks %v", missing)
	}
}

// TestRootsOfImages: programs that run where there is nothing else bring the certificates of authorities, and the time zones.
func TestRootsOfImages(t *testing.T) {
	for _, script := range []string{"packages.sh", "image.sh"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "scripts", script))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), " -tags timetzdata,fallbackroots ") {
			t.Errorf("scripts/%s builds a program without them", script)
		}
	}
	out, err := exec.Command("go", "list", "-tags", "fallbackroots", "-f", "{{.Imports}}", ".").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "golang.org/x/crypto/x509roots/fallback") {
		t.Errorf("the tag means nothing: %v, %s", err, out)
	}
}

// TestDeployedCompose: what the files of the containers say of each other is so.
func TestDeployedCompose(t *testing.T) {
	read := func(parts ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c, err := config.Parse("packhouse.toml", []byte(read("compose", "packhouse.toml")), nil)
	if err != nil {
		t.Fatal(err)
	}
	image, compose, caddy := read("Dockerfile"), read("compose", "compose.yaml"), read("compose", "Caddyfile")
	for _, test := range []struct{ file, text, want string }{
		{"Dockerfile", image, "VOLUME " + c.DataDir + "\n"},
		{"Dockerfile", image, `HEALTHCHECK --interval=30s --timeout=15s --start-period=60s CMD ["/packhouse", "health", "--data-dir", "` + c.DataDir + `"]`},
		{"Dockerfile", image, "EXPOSE " + strings.TrimPrefix(c.Listen[0], ":") + "\n"},
		{"compose.yaml", compose, "- data:" + c.DataDir + "\n"},
		{"compose.yaml", compose, "- subnet: " + c.Proxies[0] + " "},
		{"compose.yaml", compose, "condition: service_started "},
		{"Caddyfile", caddy, "reverse_proxy packhouse" + c.Listen[0] + " {"},
	} {
		if !strings.Contains(test.text, test.want) {
			t.Errorf("%s does not have %q", test.file, test.want)
		}
	}
	if _, bare, _ := strings.Cut(read("Caddyfile"), "flush_interval"); !strings.HasSuffix(caddy, bare) {
		t.Error("the two Caddyfiles differ in their settings")
	}
}
