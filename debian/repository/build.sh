#!/bin/sh
# Add a package to a signed apt repository: build.sh REPOSITORY URL KEY DEB
#
# REPOSITORY is the directory to publish at URL. It is made where it is missing, and packages that
# are in it stay. KEY is a secret key of gpg(1), as gpg names one; empty: the only one in $GNUPGHOME.
# Until all is signed, what is published stays as it was.
set -eu
umask 022
SUITES="bookworm trixie"
NAME=gitlab-mm-backup

# Exit code 2: nothing was done.
refuse() {
    printf '%s\n' "$@" >&2
    exit 2
}

# The fingerprint of the key to sign with.
find_key() {
    [ -n "$1" ] || [ -n "${GNUPGHOME:-}" ] || refuse \
        "make repo: there is no key to sign with." \
        "  Make one, and keep a copy of it off this machine:" \
        "    gpg --quick-generate-key 'gitlab-mm-backup repository' ed25519 sign never" \
        "  Then: make repo KEY=FINGERPRINT URL=https://apt.example.org"
    found=$(gpg --batch --with-colons --list-secret-keys ${1:+"$1"} 2>/dev/null |
        awk -F: '$1 == "sec" {primary = 1} $1 == "fpr" && primary {print $10; primary = 0}')
    case $found in
        "") refuse "make repo: gpg has no secret key ${1:-in $GNUPGHOME}." "  It has: gpg --list-secret-keys" ;;
        *[!0-9A-F]*) refuse "make repo: there are several secret keys:" "$found" "  Choose one: KEY=FINGERPRINT" ;;
    esac
    echo "$found"
}

add_package() {
    target="pool/${1##*/}"
    mkdir -p pool
    if [ ! -e "$target" ]; then
        install -m 0644 "$1" "$target.new"
        mv "$target.new" "$target"
    elif ! cmp -s "$1" "$target"; then
        refuse "make repo: $target is there already, with other content." \
            "  Hosts do not install one version twice. Add an entry to debian/changelog, and build again."
    fi
}

# The lists of one release, signed with the key.
write_suite() {
    suite=$1 key=$2 release=APT::FTPArchive::Release
    lists="dists.new/$suite/main/binary-all"
    mkdir -p "$lists"
    apt-ftparchive packages pool >"$lists/Packages"
    gzip --best --no-name --keep "$lists/Packages"
    apt-ftparchive -o "$release::Origin=$NAME" -o "$release::Label=$NAME" -o "$release::Suite=$suite" \
        -o "$release::Codename=$suite" -o "$release::Components=main" -o "$release::Architectures=all" \
        release "dists.new/$suite" >dists.new/Release
    mv dists.new/Release "dists.new/$suite"
    gpg --batch --local-user "$key" --armor --detach-sign --output "dists.new/$suite/Release.gpg" \
        "dists.new/$suite/Release"
    gpg --batch --local-user "$key" --clear-sign --output "dists.new/$suite/InRelease" \
        "dists.new/$suite/Release"
}

# What a host puts into /etc/apt/sources.list.d.
write_source() {
    cat >"$1.sources" <<EOT
Types: deb
URIs: $2
Suites: $1
Components: main
Signed-By: /etc/apt/keyrings/$NAME.asc
EOT
}

[ $# -eq 4 ] || refuse "usage: build.sh REPOSITORY URL KEY DEB"
repository=$1 url=$2
[ -f "$4" ] || refuse "make repo: there is no package in build/deb." "  Build it: sudo make deb"
deb=$(realpath "$4")
key=$(find_key "$3")
case $url in
    https://?* | http://?*) ;;
    *) refuse "make repo: where will it be published?" "  URL=https://apt.example.org" ;;
esac
mkdir -p "$repository" 2>/dev/null || true
[ -w "$repository" ] ||
    refuse "make repo: $(id -un) cannot write to $repository." "  Choose another directory: REPO=DIRECTORY"
cd "$repository"
trap 'rm -rf dists.new dists.old' EXIT
rm -rf dists.new
add_package "$deb"
for suite in $SUITES; do
    write_suite "$suite" "$key"
    write_source "$suite" "$url"
done
gpg --batch --armor --export "$key" >"$NAME.asc"
[ ! -e dists ] || mv dists dists.old
mv dists.new dists
echo "$repository is signed with $key. Publish it at $url"
