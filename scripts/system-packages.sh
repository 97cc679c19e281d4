#!/bin/sh
# Makes sure that programs outside of Python are there: `system-packages.sh chromium redis-server`.
# Installs what is missing with apt where it may, and otherwise says in one line what to install.
# `--venv PYTHON`: that this Python is new enough and can make virtual environments.
set -eu

if [ "${1:-}" = "--venv" ]; then
    python=$2
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "This needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..." >&2
        exit 1
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    set -- python3-venv
fi

missing=""
for package in "$@"; do
    case $package in
        chromium) command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
            || missing="$missing $package" ;;
        postgresql) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
            || command -v initdb >/dev/null || missing="$missing $package" ;;
        mesa-vulkan-drivers) [ "$(uname)" = Darwin ] || ls /usr/share/vulkan/icd.d/*.json \
            >/dev/null 2>&1 || ls /etc/vulkan/icd.d/*.json >/dev/null 2>&1 \
            || missing="$missing $package" ;;
        python3-venv) missing="$missing $package" ;;
        *) command -v "$package" >/dev/null || missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then as_root="sudo -n"; else
        echo "Missing:$missing. Please run: sudo apt-get install$missing" >&2
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null; then
    echo "Missing:$missing. Please install it with this system's package manager." >&2
    exit 1
fi
echo "Installing with apt:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # one word a package
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
