package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// The files of the certificate that a server makes for itself, in the directory of its own files. The first has the key, too, so that
// both are there or neither; the second is a copy of the certificate alone, to be given to clients.
const (
	selfSignedFile  = "tls.pem"
	certificateFile = "tls-certificate.pem"
)

// selfSignedYears is for how long it is valid: clients know it by itself, and have to be told of each new one.
const selfSignedYears = 10

// selfSigned loads the certificate that the server has made for itself, or makes it, durably.
func (sv *service) selfSigned(dir string) error {
	own := layout.ServerDir(dir)
	path := filepath.Join(own, selfSignedFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		made, err := makeCertificate(sv.c.Listen, time.Now())
		if err == nil {
			err = vfs.WriteNew(vfs.OS(), path, made)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // of another process that was first
			return fmt.Errorf("make a certificate: %w", err)
		}
	}
	if err := sv.loadCertificate(path, path); err != nil {
		return fmt.Errorf("%w; remove %s, and the server makes another certificate, of which clients have to be told", err, path)
	}
	sv.certificateFile = filepath.Join(own, certificateFile)
	if sv.readOnly {
		return nil
	}
	alone := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sv.cert.Leaf()})
	if now, err := os.ReadFile(sv.certificateFile); err == nil && string(now) == string(alone) {
		return nil
	}
	if err := vfs.Replace(vfs.OS(), sv.certificateFile, alone); err != nil {
		return fmt.Errorf("store the certificate for clients: %w", err)
	}
	return nil
}

// makeCertificate makes a key, and a certificate for the names by which a server that listens on addresses is known: PEM.
func makeCertificate(addresses []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Packhouse"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(selfSignedYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, // clients have it as an authority
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		ip := net.ParseIP(host)
		switch {
		case err != nil || host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()):
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case !slices.Contains(template.DNSNames, host):
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
