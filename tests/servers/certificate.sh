#!/bin/sh
# A root of its own and a certificate for localhost that it has signed.
#   certificate.sh make DIR   writes DIR/tls/root.pem, certificate.pem and key.pem; they are good for a week
set -eu
. "$(dirname "$0")/common.sh"

[ "${1:-}" = make ] || fail "${1:-}: make"
tls=${2:?a folder}/tls
command -v openssl >/dev/null 2>&1 || fail "openssl is not installed (Debian: openssl)"
mkdir -p "$tls"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key "$tls/root.key"
key "$tls/key.pem"
openssl req -x509 -new -key "$tls/root.key" -days 7 -subj "/CN=Root of a test" -out "$tls/root.pem"
openssl req -new -key "$tls/key.pem" -subj "/CN=localhost" -out "$tls/request.pem"
printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >"$tls/extensions"
openssl x509 -req -in "$tls/request.pem" -CA "$tls/root.pem" -CAkey "$tls/root.key" -CAcreateserial -days 7 \
    -extfile "$tls/extensions" -out "$tls/certificate.pem"
