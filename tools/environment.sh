#!/bin/sh
# Makes .venv from the lock: Python 3.11 or newer is found, and on Debian its venv module fetched where it is missing.
set -eu

python=
for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
  [ -n "$candidate" ] || continue
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "babelscale needs Python 3.11 or newer; on Debian 12 or newer: apt-get install python3 python3-venv" >&2
  exit 2
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$version"
  else
    echo "$python has no venv module; on Debian: sudo apt-get install $version" >&2
    exit 2
  fi
fi

rm -rf .venv
"$python" -m venv .venv
echo "installing the locked packages into .venv (about 1 GB, once)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
