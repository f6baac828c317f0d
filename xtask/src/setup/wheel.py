"""Fetches and unpacks pinned wheels for `cargo xtask setup`. Reports one JSON object a line on stdout.

The wheel is asked of the index that the user's pip is set up for, through pip's own session, so that mirrors, proxies,
certificates and credentials are what they are for any other package. What pip itself lacks is a download that goes on
after an interruption; that is done here with HTTP ranges.
"""

import argparse
import errno
import hashlib
import json
import os
import sys
import time
import zipfile

CHUNK_BYTES = 1 << 20
TRIES_WITHOUT_PROGRESS_MAX = 5


class Failure(Exception):
    """An end that the user can do something about."""

    def __init__(self, message, hint):
        super().__init__(message)
        self.hint = hint


class PipDiffers(Exception):
    """This pip's inside isn't the one known here; its command line still is."""


def report(**fields):
    print(json.dumps(fields), flush=True)


def find(project, filename):
    """The wheel's URL, and the session to fetch it with."""
    try:
        import pip  # noqa: F401
    except ImportError:
        raise Failure(
            f"{sys.executable} has no pip",
            "install it, for example `sudo apt install python3-pip` or `sudo dnf install python3-pip`",
        )
    try:
        from pip._internal.cli.cmdoptions import make_target_python
        from pip._internal.commands import create_command

        command = create_command("download")
        options, _ = command.parse_args(
            ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
            + ["--platform=" + tag for tag in ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_25_x86_64")]
            + ["--platform=" + tag for tag in ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "any")]
            + [project]
        )
        with command.main_context():
            session = command.get_default_session(options)
            finder = command._build_package_finder(
                options=options,
                session=session,
                target_python=make_target_python(options),
                ignore_requires_python=True,
            )
            candidates = finder.find_all_candidates(project)
            links = [candidate.link for candidate in candidates]
            found = [link.url_without_fragment for link in links if link.filename == filename]
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PipDiffers(f"{type(error).__name__}: {error}")
    if not found:
        raise Failure(
            f"the package index has no {filename} ({len(links)} other files of {project} seen)",
            "check the network and `python3 -m pip config list`; or set LIBTORCH to a libtorch of your own",
        )
    return found[0], session


def hash_of(path, digest):
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest


def fetch_once(session, url, part, digest):
    """Appends to `part` what it lacks, and feeds all of it to `digest`. Returns the offset that it went on from."""
    have = start = os.path.getsize(part) if os.path.exists(part) else 0
    if have:
        hash_of(part, digest)
    tries = 0
    total = None
    while total is None or have < total:
        before = have
        try:
            headers = {"Accept-Encoding": "identity"}
            if have:
                headers["Range"] = f"bytes={have}-"
            with session.get(url, headers=headers, stream=True) as response:
                if response.status_code == 416:
                    # Whole already, or longer than the server's: the digest tells.
                    return start
                response.raise_for_status()
                if have and response.status_code != 206:
                    # The server knows no ranges: from the start.
                    have = before = start = 0
                    digest.__init__()
                length = response.headers.get("Content-Length")
                total = have + int(length) if length is not None else None
                report(at=have, size=total)
                with open(part, "r+b" if have else "wb", buffering=0) as file:
                    file.seek(have)
                    for chunk in response.iter_content(CHUNK_BYTES):
                        file.write(chunk)
                        digest.update(chunk)
                        have += len(chunk)
                        report(at=have, size=total)
                if total is None:
                    return start
        except OSError as error:
            # The HTTP library's errors are OSErrors too; those of the disk carry an errno.
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO):
                raise
            tries = 0 if have > before else tries + 1
            if tries >= TRIES_WITHOUT_PROGRESS_MAX:
                raise Failure(
                    f"the download broke off at {have} bytes: {error}",
                    "check the network and run the command again: it goes on where it stopped",
                )
            report(note=f"broke off at {have} bytes, going on")
            time.sleep(min(2**tries, 10))
    return start


class Sha256:
    """hashlib's, but one that can be started anew."""

    def __init__(self):
        self.inner = hashlib.sha256()

    def update(self, chunk):
        self.inner.update(chunk)

    def hexdigest(self):
        return self.inner.hexdigest()


def fetch(project, filename, sha256, path):
    if os.path.exists(path):
        if hash_of(path, Sha256()).hexdigest() == sha256:
            return
        os.remove(path)
        report(note="the file in the cache is damaged, fetching it again")
    part = path + ".part"
    url, session = find(project, filename)
    while True:
        digest = Sha256()
        resumed_from = fetch_once(session, url, part, digest)
        if digest.hexdigest() == sha256:
            os.replace(part, path)
            return
        os.remove(part)
        if not resumed_from:
            raise Failure(
                f"{filename} is not the pinned file: expected sha256 {sha256}, found {digest.hexdigest()}",
                "it was removed; the network or the mirror altered it, try another one",
            )
        report(note="what an interrupted download had left is damaged, starting anew")


def unpack(wheel, folder, rules):
    """Unpacks what a rule names: `FROM=TO` for one file, `FROM/=TO/` for all below a folder."""
    rules = [rule.split("=", 1) for rule in rules]
    with zipfile.ZipFile(wheel) as archive:
        todo = []
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            for source, target in rules:
                if entry.filename == source:
                    todo.append((entry, target))
                elif source.endswith("/") and entry.filename.startswith(source):
                    todo.append((entry, target + entry.filename[len(source) :]))
        missing = [source for source, _ in rules if not any(e.filename.startswith(source) for e, _ in todo)]
        if missing:
            raise Failure(f"{wheel} lacks {', '.join(missing)}", "this is a defect of xtask's pins")
        size = sum(entry.file_size for entry, _ in todo)
        done = 0
        for entry, target in todo:
            path = os.path.join(folder, target)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as out:
                while chunk := source.read(CHUNK_BYTES):
                    out.write(chunk)
                    done += len(chunk)
                    report(at=done, size=size)
            # Programs stay programs.
            os.chmod(path, 0o755 if entry.external_attr >> 16 & 0o111 or target.startswith("bin/") else 0o644)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch")
    for name in ("project", "filename", "sha256", "path"):
        fetching.add_argument(name)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("wheel")
    unpacking.add_argument("folder")
    unpacking.add_argument("rules", nargs="+")
    args = parser.parse_args()
    try:
        if args.command == "fetch":
            fetch(args.project, args.filename, args.sha256, args.path)
        else:
            unpack(args.wheel, args.folder, args.rules)
    except PipDiffers as error:
        report(pip_differs=str(error))
    except Failure as failure:
        report(error=str(failure), hint=failure.hint)
        return 1
    except OSError as error:
        hint = "check that it can be written, or point XDG_CACHE_HOME elsewhere"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free 1.1 GB there, or point XDG_CACHE_HOME at a disk that has room"
        where = args.path if args.command == "fetch" else args.folder
        report(error=f"{where}: {error}", hint=hint)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
