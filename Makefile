# Checks, tests, package and demo. Everything they need is installed on first use:
# a few Debian packages on this machine, Python packages in build/venv, the rest inside labs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON := /usr/bin/python3
ONLY :=
VENV := build/venv
HOST_PACKAGES := aardvark-dns apt-utils ca-certificates chromium gettext git gnupg iptables mmdebstrap mount netavark \
	podman poppler-utils python3 python3-venv runc shellcheck systemd tar util-linux zstd
# The long ones first, so that all workers are busy to the end.
SUITES := $(wildcard tests/system tests/unit)
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/hypothesis
# Three at a time, for they often wait; a file, or a class of it, shares one lab, so it stays with one of them.
PYTEST := $(VENV)/bin/python -m pytest -c tests/pytest.ini -n 3 --dist loadscope --no-loadscope-reorder

.PHONY: help setup check unit lab-test test long mutants races fuzz real-test schema bench deb deb-deps repo demo clean need-mattermost need-root

help:
	@echo "make check     formatting, lint, types"
	echo "make test      all tests (root; labs are built from namespaces)"
	echo "make unit      unit tests alone"
	echo "make lab-test  lab tests alone (root)"
	echo "make mutants   small faults in the modules that decide, and whether unit tests find them; ONLY=mattermost.trust,system.files"
	echo "make races     paths and a database that change all the time, for long (root); CHANGES=1000"
	echo "make fuzz      odd hosts, backed up and restored on another, compared (root); SEED=19 HOSTS=200 ODD=FILE"
	echo "make real-test the story of a backup, and the conformance checks, on real Mattermost servers (root); MATTERMOST=DIR"
	echo "make schema    the tables of real Mattermost servers, into tests/lab/fixtures (root); MATTERMOST=DIR"
	echo "make bench     ours against what can be typed by hand (root); SCALE=0.25 ROUNDS=3 ONLY=restore,nights"
	echo "make bench AGAINST=COMMIT   ours against an earlier commit of ours, job by job (root)"
	echo "make deb       the package, into build/deb (root)"
	echo "make deb-deps  packages of what bullseye lacks, into build/deb-deps (root)"
	echo "make repo      a signed apt repository with the package, into build/repo; KEY=FINGERPRINT URL=https://apt.example.org"
	echo "make demo      the whole story in a lab (root)"
	echo "make clean     remove build/"

setup: $(VENV)/.complete
	@:

# Quiet and quick when nothing is missing.
build/.host: Makefile
	@mkdir -p build
	missing=""
	for package in $(HOST_PACKAGES); do
		state=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)
		[ "$$state" = installed ] || missing="$$missing $$package"
	done
	if [ -n "$$missing" ]; then
		[ "$$(id -u)" -eq 0 ] || { echo "make: missing$$missing; run 'sudo make setup'" >&2; exit 1; }
		echo "Installing$$missing"
		export DEBIAN_FRONTEND=noninteractive
		install=(apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $$missing)
		compgen -G '/var/lib/apt/lists/*_InRelease' >/dev/null || apt-get -qq update
		"$${install[@]}" >build/apt.log 2>&1 || { apt-get -qq update; "$${install[@]}"; }
	fi
	touch $@

$(VENV)/.complete: tests/requirements.txt | build/.host
	@echo "Installing Python packages into $(VENV)"
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore -r tests/requirements.txt
	touch $@

check: setup
	@$(VENV)/bin/ruff check --config tests/ruff.toml .
	$(VENV)/bin/ruff format --check --config tests/ruff.toml .
	$(VENV)/bin/mypy --config-file tests/mypy.ini gitlab_mm_backup debian/manual tests

unit: setup
	@$(PYTEST) tests/unit

lab-test: need-root setup deb
	@$(PYTEST) tests/system

test: need-root setup deb
	@$(PYTEST) $(SUITES)

# For the night, as races and fuzz.
long: need-root setup deb
	@$(PYTEST) -m long tests/system

# Some minutes: each change of a module is tried by the unit tests that import it. CI tries a sample.
mutants: setup
	@$(VENV)/bin/python -B -m tests.mutants --only "$(ONLY)"

# With a hundred changes for each verb they are part of all tests.
CHANGES := 1000
races: need-root setup deb
	@GITLAB_MM_RACES="$(CHANGES)" $(PYTEST) tests/system/boundary/test_boundary_races.py tests/system/boundary/test_boundary_owner.py

# An hour, for the night: ten hosts are part of all tests. With HOSTS=1 FIRST=13 one of a seed's hosts again.
SEED := 19
HOSTS := 200
FIRST := 0
ODD :=
fuzz: need-root setup deb
	@$(VENV)/bin/python -B -m tests.fuzz --seed "$(SEED)" --hosts "$(HOSTS)" --first "$(FIRST)" --odd "$(ODD)"

# Some minutes for each server. A directory is as in Mattermost's own tarball; several with blanks between them.
MATTERMOST :=
real-test: need-mattermost need-root setup deb
	@MATTERMOST="$(MATTERMOST)" $(PYTEST) tests/real

# For a new version: unit tests hold the lists of mattermost/owned_rows.py against these.
schema: need-mattermost need-root setup
	@$(VENV)/bin/python -B -m tests.lab.real_schema $(MATTERMOST)

# Not a test: half an hour that wants the machine for itself.
SCALE := 0.25
ROUNDS := 3
AGAINST :=
bench: need-root build/.host
	@$(PYTHON) -B -m tests.bench --scale "$(SCALE)" --rounds "$(ROUNDS)" --only "$(ONLY)" --against "$(AGAINST)"

deb: need-root build/.host
	@$(PYTHON) -B -m tests.lab.base

deb-deps: need-root setup
	@$(VENV)/bin/python -B -m tests.lab.dependencies

# Not as root: the key is that of the publisher. The packages that are in REPO stay there.
REPO := build/repo
URL :=
KEY :=
repo: build/.host
	@debian/repository/build.sh "$(REPO)" "$(URL)" "$(KEY)" "$(wildcard build/deb/*.deb)"

demo: need-root build/.host
	@$(PYTHON) -B -m tests.demo

need-mattermost:
	@[ -n "$(MATTERMOST)" ] || { \
		echo "make: give a server: make real-test MATTERMOST=DIR (or make schema), with bin/mattermost, i18n, templates and fonts" >&2; \
		exit 2; \
	}

need-root:
	@[ "$$(id -u)" -eq 0 ] || { echo "make: labs need root: they are built from namespaces and mounts; use sudo" >&2; exit 1; }

clean:
	@rm -rf build gitlab_mm_backup.egg-info
