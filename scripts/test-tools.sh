#!/usr/bin/env bash
# Install what some tests run beside Python, where that is allowed: scripts/test-tools.sh
# Quick where everything is there. Never fails: a test whose program is absent says that it is skipped, and why.
set -uo pipefail
PATH=$PATH:/usr/sbin:/sbin
# program (or several of which one will do, between bars), Debian package, service that the package would start
tools=(
  "mosquitto mosquitto mosquitto"
  "mosquitto_sub mosquitto-clients -"
  "nats-server nats-server nats-server"
  "ip iproute2 -"
  "chromium chromium -"
)
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
found() { # one of the programs between the bars
  local program
  for program in ${1//|/ }; do command -v "$program" >/dev/null && return; done
  return 1
}

packages=() services=()
for tool in "${tools[@]}"; do
  read -r programs package service <<<"$tool"
  found "$programs" && continue
  packages+=("$package")
  [ "$service" = - ] || services+=("$service")
done
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  say "tests will be skipped for want of ${packages[*]} (Debian's names); no apt-get here to install them"
  exit 0
elif [ "$(id -u)" = 0 ]; then
  as_root() { "$@"; }
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root() { sudo -n "$@"; }
else
  say "tests will be skipped for want of ${packages[*]}; run: sudo apt-get install ${packages[*]}"
  exit 0
fi

say "installing ${packages[*]} for the tests"
# No service of these packages may run: the tests start their own, on ports of their own. The first line below keeps
# them from being started, the last ends and disables them where that was not heeded.
policy=/usr/sbin/policy-rc.d ours=
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && ours=yes
  trap '[ -z "$ours" ] || as_root rm -f "$policy"' EXIT
fi
apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=1 \
    -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 "$@" >/dev/null 2>&1
}
apt install -y --no-install-recommends "${packages[@]}" ||
  { apt update; apt install -y --no-install-recommends "${packages[@]}"; } ||
  say "that did not work (${packages[*]}): their tests will be skipped"
for service in "${services[@]}"; do
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --now "$service" >/dev/null 2>&1
  elif command -v service >/dev/null; then
    as_root service "$service" stop >/dev/null 2>&1
  fi
done
exit 0
