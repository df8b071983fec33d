#!/bin/sh
# Installs peft from an archive that release/build made:
#
#     sh install.sh ARCHIVE [--prefix DIR]        (default: ~/.local)
#
# ARCHIVE is a file or an https address. Its checksum must be next to it (ARCHIVE.sha256) and is verified.
# This needs only a shell, tar, gzip, sha256sum (or shasum) and, for an address, curl or wget.
set -eu

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
# A word, quoted for the shell if it must be.
quoted() {
    case "$1" in
        *[!A-Za-z0-9_./~+@%:,=-]* | '') printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s' "$1" ;;
    esac
}

archive=
prefix=
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) [ -n "${2:-}" ] || fail "--prefix needs a folder"; prefix="$2"; shift 2 ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) fail "$1 is not an option; the only one is --prefix DIR" ;;
        *) [ -z "$archive" ] || fail "one archive at a time: $archive, $1"; archive="$1"; shift ;;
    esac
done
[ -n "$archive" ] || fail "no archive is given: sh install.sh peft-VERSION-TARGET.tar.gz"
if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || fail "HOME is not set: give the folder to install into with --prefix DIR"
    prefix="$HOME/.local"
fi
case "$prefix" in /*) ;; *) prefix="$(pwd)/$prefix" ;; esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl --proto '=https' --fail --silent --show-error --location "$1" --output "$2"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --output-document="$2" "$1"
    else
        fail "neither curl nor wget is installed: download $1 by other means, and give the file"
    fi
}

case "$archive" in
    https://*)
        fetch "$archive" "$work/archive" || fail "$archive cannot be fetched"
        fetch "$archive.sha256" "$work/sha256" || fail "$archive.sha256 cannot be fetched"
        ;;
    *://*) fail "$archive: give an https address, or a file" ;;
    *)
        [ -f "$archive" ] || fail "$archive: there is no such file"
        [ -f "$archive.sha256" ] || fail "$archive.sha256: the checksum is missing"
        cp "$archive" "$work/archive"
        cp "$archive.sha256" "$work/sha256"
        ;;
esac

if command -v sha256sum >/dev/null 2>&1; then
    sum="$(sha256sum <"$work/archive")"
elif command -v shasum >/dev/null 2>&1; then
    sum="$(shasum -a 256 <"$work/archive")"
else
    fail "neither sha256sum nor shasum is installed: the archive's checksum cannot be verified"
fi
read -r wanted _ <"$work/sha256" || [ -n "$wanted" ] || fail "$archive.sha256 is empty"
[ "${sum%% *}" = "$wanted" ] || fail "$archive does not match its checksum: download it again"

mkdir "$work/unpacked"
gzip -dc "$work/archive" >"$work/tar" && tar -xf "$work/tar" -C "$work/unpacked" || fail "$archive cannot be unpacked"
# The archive holds one folder, whatever the file is called.
set -- "$work"/unpacked/*
[ $# -eq 1 ] && [ -f "$1/bin/peft" ] || fail "$archive holds no peft"
top="$1"
# A folder that is mounted with noexec runs nothing.
[ -x "$top/bin/peft" ] || fail "no program can run in $work: set TMPDIR to a folder where one can"
# Checked before anything is put in place.
version="$("$top/bin/peft" --version)" ||
    fail "the command in $archive does not run here: it is for another processor or another version of the system"

for part in bin share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d \
    share/man/man1 share/doc/peft share/peft; do
    mkdir -p "$prefix/$part" && [ -w "$prefix/$part" ] ||
        fail "$prefix/$part cannot be written to: give another folder with --prefix DIR"
done

put() { # put FILE FOLDER [NAME]
    mkdir -p "$prefix/$2"
    to="$prefix/$2/${3:-$(basename "$1")}"
    [ ! -d "$to" ] || fail "$to is a folder, but must be a file"
    # The new file replaces the old one in one step.
    if ! { cp "$1" "$to.peft-new" && mv -f "$to.peft-new" "$to"; }; then
        rm -f "$to.peft-new"
        fail "$to cannot be written"
    fi
}
put_all() { # put_all FOLDER FOLDER: puts the files of the first into the second; other files there stay
    for item in "$1"/*; do
        if [ -d "$item" ]; then
            put_all "$item" "$2/$(basename "$item")"
        elif [ -f "$item" ]; then
            put "$item" "$2"
        fi
    done
}
put "$top/completions/peft.bash" share/bash-completion/completions peft
put "$top/completions/_peft" share/zsh/site-functions
put "$top/completions/peft.fish" share/fish/vendor_completions.d
put_all "$top/man/man1" share/man/man1
for text in README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE THIRD-PARTY.txt; do
    put "$top/$text" share/doc/peft
done
put_all "$top/share" share/peft
# Last, and in one step, so that a peft that is running goes on.
put "$top/bin/peft" bin

say "$version is $prefix/bin/peft"
case ":${PATH:-}:" in
    *":$prefix/bin:"*) ;;
    *) say "that folder is not on your PATH yet: export PATH=$(quoted "$prefix/bin"):\"\$PATH\"" ;;
esac
say "try it: cd $(quoted "$prefix/share/peft") && peft train configs/quickstart.toml --set training.output_dir=\"\$HOME/quickstart\""
