# Sourced by ./run and ./test, from the top folder: puts uv and the locked Python environment in place.
# Everything it makes stays in .venv and .venv-tools.

uv_version=0.13.9

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Debian as root: install packages without starting their services (invoke-rc.d heeds RUNLEVEL).
apt_install() {
    echo "Installing: $*" >&2
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >&2 </dev/null
}

may_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# Prints the path of uv: the user's own, else one in .venv-tools.
find_uv() {
    if command -v uv >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if [ ! -x .venv-tools/bin/uv ]; then
        if ! command -v python3 >/dev/null 2>&1 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
            may_apt || die "uv is missing, and so is python3 with venv, which could install it." \
                "Install uv (https://docs.astral.sh/uv), or python3-venv, and run this again."
            apt_install python3 python3-venv
        fi
        echo "Installing uv $uv_version into .venv-tools" >&2
        python3 -m venv .venv-tools >&2
        .venv-tools/bin/python -m pip --quiet --disable-pip-version-check install "uv==$uv_version" >&2 ||
            die "uv could not be installed into .venv-tools: see above." \
                "Install it yourself (https://docs.astral.sh/uv) and run this again."
    fi
    echo "$PWD/.venv-tools/bin/uv"
}

# sync OPTIONS…: .venv equals uv.lock, compiled once, so that each of many short processes starts in half the time.
sync() {
    local uv
    uv=$(find_uv) || exit 1
    "$uv" sync --quiet --frozen --compile-bytecode "$@" || die "The environment could not be made from uv.lock: see above."
}
