"""Makes .venv, or brings it up to date: python3 tools/setup_env.py

Started by whatever python3 the machine has, so it needs only the standard library and runs under old Pythons
too, to say in one line which one is needed. A stamp inside .venv says from what it was made; while that holds
there is nothing to do. Until the install is complete the stamp says "unfinished", and an environment that a
killed install has left half-made is made again.
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "labs-stamp.json"
VENV_PYTHON = VENV / "bin" / "python"
SOURCES = ("pyproject.toml", "constraints.txt")
SUPPORTED = ("3.13", "3.12", "3.11")
# What the install takes while it runs, packages and downloads together. On Linux torch brings CUDA.
NEEDED_GB = 10 if sys.platform.startswith("linux") else 3
UNFINISHED = {"unfinished": True}
PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3]); import ensurepip, venv"


class SetupError(Exception):
    """What happened and what to do about it, in one line."""


def probe(executable):
    """(version, can make environments) of a Python; None if it doesn't run.

    pyenv's stand-ins for versions that are not active exist and don't run, so looking is not enough.
    """
    try:
        result = subprocess.run(
            [str(executable), "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
    except OSError:
        return None
    version = result.stdout.decode().strip()
    return (version, result.returncode == 0) if version else None


def supported(version):
    return version.rsplit(".", 1)[0] in SUPPORTED


def choose_python(candidates):
    """The first candidate that is supported and can make environments. Raises SetupError if none is."""
    found = [(path, *probed) for path, probed in ((path, probe(path)) for path in candidates) if probed]
    for path, version, complete in found:
        if supported(version) and complete:
            return path
    for path, version, _ in found:
        if supported(version):
            minor = version.rsplit(".", 1)[0]
            raise SetupError(
                "Python %s (%s) lacks its venv module. On Debian or Ubuntu: sudo apt install python%s-venv."
                % (version, path, minor)
            )
    seen = ", ".join("%s (%s)" % (version, path) for path, version, _ in found)
    raise SetupError(
        "Python 3.11, 3.12 or 3.13 is needed; found: %s. Get one at https://www.python.org/downloads." % seen
    )


def candidates():
    """This Python first: it is the one the person has chosen."""
    on_path = (shutil.which("python" + version) for version in SUPPORTED)
    return [sys.executable] + [path for path in on_path if path]


def requirements():
    """One hash over the files that say what belongs into the environment."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def read_stamp():
    """The stamp; {} if there is none; UNFINISHED if it can't be read."""
    try:
        return json.loads(STAMP.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        return UNFINISHED


def decide():
    """What .venv needs: "nothing", "install" on top of what is there, or "make" anew."""
    probed = probe(VENV_PYTHON)
    stamp = read_stamp()
    if probed is None or not supported(probed[0]) or stamp == UNFINISHED:
        return "make"
    if not stamp:
        return "install"  # made by hand with the plain commands: keep it and add what is missing
    if stamp["python"] != probed[0] or stamp["root"] != str(ROOT):
        return "make"  # an upgraded Python or a moved folder leaves scripts that point nowhere
    return "nothing" if stamp["requirements"] == requirements() else "install"


def check_space():
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < NEEDED_GB:
        raise SetupError(
            "The disk is too full: the set-up takes about %d GB and %.1f GB are free in %s. Make room there."
            % (NEEDED_GB, free, ROOT)
        )


def make_venv():
    python = choose_python(candidates())
    check_space()
    print("Making .venv with %s" % python, flush=True)
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(str(VENV))
    VENV.mkdir()
    STAMP.write_text(json.dumps(UNFINISHED))
    result = subprocess.run(
        [str(python), "-m", "venv", str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if result.returncode:
        raise SetupError(diagnose(result.stdout.decode(errors="replace").splitlines()))


def diagnose(lines):
    """One line on why pip or venv failed, from what it wrote."""
    text = "\n".join(lines)
    if "No space left on device" in text or "Errno %d" % errno.ENOSPC in text:
        return "The disk is full. Make room in %s: the set-up takes about %d GB." % (ROOT, NEEDED_GB)
    if any(sign in text for sign in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")):
        return "The package index can't be reached. Check the network (a proxy goes into https_proxy)."
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
    return "The packages could not be installed (%s)." % errors[-1].strip()


def install():
    STAMP.write_text(json.dumps(UNFINISHED))
    print("Installing the packages: some minutes the first time, most of it PyTorch", flush=True)
    # pip unpacks into TMPDIR, which on many machines is a small disk in memory.
    with tempfile.TemporaryDirectory(dir=str(VENV)) as scratch:
        command = [str(VENV_PYTHON), "-m", "pip", "install", "-e", ".[lab,test]", "-c", "constraints.txt"]
        pip = subprocess.Popen(
            command,
            cwd=str(ROOT),
            env=dict(os.environ, TMPDIR=scratch, PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1"),
            stderr=subprocess.PIPE,
        )
        lines = []
        for raw in pip.stderr:  # progress is on stdout and goes straight to the terminal
            lines.append(raw.decode(errors="replace").rstrip())
            if "Retrying" in lines[-1] and not any("Retrying" in line for line in lines[:-1]):
                print("The package index does not answer; pip tries a few more times", flush=True)
        if pip.wait():
            raise SetupError(diagnose(lines))
    stamp = {"python": probe(VENV_PYTHON)[0], "root": str(ROOT), "requirements": requirements()}
    STAMP.write_text(json.dumps(stamp))


def main():
    try:
        action = decide()
        if action == "make":
            make_venv()
        if action != "nothing":
            install()
    except SetupError as error:
        message = str(error)
    except OSError as error:
        message = diagnose([str(error)]) if error.errno == errno.ENOSPC else "Set-up stopped: %s." % error
    except KeyboardInterrupt:
        message = "Stopped."
    else:
        return 0
    print("%s Then run the same command again." % message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
