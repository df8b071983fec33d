#!/bin/sh
# Installs peft from an archive that release/build made:
#
#     sh install.sh ARCHIVE [--prefix DIR]        (~/.local unless said otherwise)
#
# ARCHIVE is a file or an https address; its checksum lies beside it (ARCHIVE.sha256) and is held against it.
# Nothing is needed but a shell, tar, gzip, sha256sum (or shasum), and for an address curl or wget.
set -eu

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

archive=
prefix="${HOME:-}/.local"
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) [ $# -gt 1 ] || fail "--prefix needs a folder"; prefix="$2"; shift 2 ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) fail "$1 is no option; there is --prefix DIR" ;;
        *) [ -z "$archive" ] || fail "one archive at a time: $archive, $1"; archive="$1"; shift ;;
    esac
done
[ -n "$archive" ] || fail "name the archive: sh install.sh peft-VERSION-TARGET.tar.gz"
case "$prefix" in /*) ;; *) prefix="$(pwd)/$prefix" ;; esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl --proto '=https' --fail --silent --show-error --location "$1" --output "$2"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --output-document="$2" "$1"
    else
        fail "neither curl nor wget is there: fetch $1 by other means, and name the file"
    fi
}

file="$(basename "$archive")"
case "$archive" in
    https://*)
        fetch "$archive" "$work/$file" || fail "$archive cannot be fetched"
        fetch "$archive.sha256" "$work/$file.sha256" || fail "$archive.sha256 cannot be fetched"
        ;;
    *://*) fail "$archive: give an https address, or a file" ;;
    *)
        [ -f "$archive" ] || fail "$archive: there is no such file"
        [ -f "$archive.sha256" ] || fail "$archive.sha256: the checksum is missing"
        cp "$archive" "$work/$file"
        cp "$archive.sha256" "$work/$file.sha256"
        ;;
esac

if command -v sha256sum >/dev/null 2>&1; then
    sum="$(sha256sum <"$work/$file")"
elif command -v shasum >/dev/null 2>&1; then
    sum="$(shasum -a 256 <"$work/$file")"
else
    fail "neither sha256sum nor shasum is there: the checksum cannot be held against the archive"
fi
read -r wanted _ <"$work/$file.sha256" || fail "$archive.sha256 is empty"
[ "${sum%% *}" = "$wanted" ] || fail "$archive is not what its checksum says: fetch it again"

gzip -dc "$work/$file" | tar -xf - -C "$work" || fail "$archive cannot be unpacked"
top="$work/${file%.tar.gz}"
[ -x "$top/bin/peft" ] || fail "$archive holds no peft"
# Before anything is put in place.
version="$("$top/bin/peft" --version)" ||
    fail "this command does not run here: it is for another processor or an older or newer system ($file)"

put() { # put SOURCE FOLDER [NAME]
    mkdir -p "$prefix/$2"
    to="$prefix/$2/${3:-$(basename "$1")}"
    rm -rf "$to.new"
    cp -R "$1" "$to.new"
    # A file takes the other's place in one step.
    [ ! -d "$to" ] || rm -rf "$to"
    mv -f "$to.new" "$to"
}
put "$top/completions/peft.bash" share/bash-completion/completions peft
put "$top/completions/_peft" share/zsh/site-functions
put "$top/completions/peft.fish" share/fish/vendor_completions.d
for page in "$top"/man/man1/*.1; do
    put "$page" share/man/man1
done
for text in README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE THIRD-PARTY.txt; do
    put "$top/$text" share/doc/peft
done
put "$top/share" share peft
# Last, in one step: a peft that runs goes on.
put "$top/bin/peft" bin

say "$version is $prefix/bin/peft"
case ":${PATH:-}:" in
    *":$prefix/bin:"*) ;;
    *) say "it is not on your PATH yet: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
say "try it: cd $prefix/share/peft && peft train configs/quickstart.toml --set training.output_dir=\$HOME/quickstart"
