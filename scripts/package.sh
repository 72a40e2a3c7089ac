#!/usr/bin/env bash
# Pack a release that installs without a network: scripts/package.sh [FOLDER], by default dist/.
#   PYTHONS  the Pythons of the devices it is for, each a command here (default: python3). Debian 12: 3.11;
#            Ubuntu 22.04 and JetPack 6: 3.10; Ubuntu 24.04 and JetPack 7: 3.12. For a Jetson, pack on an arm64 machine.
#   EXTRAS   parts of the agent beyond what it always has (default: standards; "tensorrt" adds a few gigabytes on x86-64).
# Two runs over the same sources and wheels give the same archive, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-dist}
pythons=${PYTHONS:-python3}
extras=${EXTRAS-standards}
builder=${PYTHON:-.venv/bin/python}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022

say "building the agent's own wheel"
"$builder" -m pip --disable-pip-version-check wheel -qq --no-deps --wheel-dir "$stage/own" .
wheel=$(basename "$stage"/own/dermascan_edge-*.whl)
version=${wheel#dermascan_edge-}; version=${version%%-*}
name="dermascan-edge-$version-$(uname -m)"
release="$stage/$name"
mkdir -p "$release/wheels" "$release/docs"
mv "$stage/own/$wheel" "$release/wheels/"
for python in $pythons; do
  say "collecting what it needs, for $("$python" --version)"
  # By that very Python: which packages are needed depends on it. pip itself goes along, as devices often have none.
  "$python" -m pip --disable-pip-version-check download -qq --only-binary=:all: -c constraints.txt \
    --dest "$release/wheels" pip "$release/wheels/$wheel${extras:+[$extras]}"
done

cp -r systemd "$release/systemd"
cp docs/*.md "$release/docs/"
cp agent.example.toml constraints.txt LICENSE scripts/install.sh "$release/"
printf '%s\n' "$version" >"$release/VERSION"
printf '%s\n' "$extras" >"$release/EXTRAS"
"$builder" scripts/sbom.py "$release" >"$release/sbom.cdx.json"
(cd "$release" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >"$stage/sums" &&
  mv "$stage/sums" SHA256SUMS)
find "$release" -type f -exec chmod 644 {} + && find "$release" -type d -exec chmod 755 {} +
chmod 755 "$release/install.sh"

archive="$out/$name.tar.gz"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --pax-option=delete=atime,delete=ctime \
  -C "$stage" -cf - "$name" | gzip -n -1 >"$archive"
cp "$release/sbom.cdx.json" "$out/$name.cdx.json"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
say "$archive: $(du -h "$archive" | cut -f1), $(find "$release/wheels" -name '*.whl' | wc -l) wheels"
