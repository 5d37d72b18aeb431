"""`python -m labs_lib augment`: the same lines from any engine, however the file is cut; mistakes in one line."""

import errno
import json
import os

import pytest

import labs_lib.text_pipeline as text
from labs_lib import cli
from labs_lib.errors import LabError
from labs_lib.text_pipeline import commands, stream
from labs_lib.text_pipeline import corpus as corpora
from labs_lib.text_pipeline.stream import augment_file

NONE = text.Rates(0, 0, 0, 0)


def run(*arguments):
    """As `labs_lib.cli.main` does, with this command alone."""
    parser = cli.Parser(prog="python -m labs_lib")
    commands.register(parser.add_subparsers())
    args = parser.parse_args(["augment", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes("".join([*(s + "\n" for s in text.sentences(200)), "CRLF line\r\n", "\n", "naïve π 🙂"]).encode())
    return path


def lines_of(path):
    return path.read_bytes().decode().split("\n")


def test_each_line_is_the_references(tmp_path, source, capsys):
    target = tmp_path / "out.txt"
    assert run(source, "--output", target, "--seed", 5, "--remove", 0.1, "--shuffle", 0.5) == 0
    rates = text.Rates(remove=0.1, shuffle=0.5)
    bodies = [line.removesuffix("\r") for line in lines_of(source)]
    expected = [text.augment_by_characters(s, index, 5, rates) for index, s in enumerate(bodies)]
    expected[200] += "\r"
    assert lines_of(target) == expected
    assert capsys.readouterr().out.startswith("203 lines: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


@pytest.mark.parametrize("engine", text.ENGINES)
@pytest.mark.parametrize("block", [1, 1000])
def test_neither_engine_nor_block_changes_a_byte(tmp_path, source, monkeypatch, engine, block):
    whole, cut = tmp_path / "whole.txt", tmp_path / "cut.txt"
    augment_file(source, whole, 0, clean=True)
    monkeypatch.setattr(corpora, "BLOCK", block)
    assert run(source, "--output", cut, "--engine", engine, "--clean") == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_json(tmp_path, source, capsys):
    assert run(source, "--output", tmp_path / "out.txt", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lines"] == 203
    assert found["characters_out"] == sum(len(line.rstrip("\r")) for line in lines_of(tmp_path / "out.txt"))


def test_an_empty_file_stays_empty(tmp_path):
    (tmp_path / "in.txt").touch()
    assert run(tmp_path / "in.txt", "--output", tmp_path / "out.txt") == 0
    assert (tmp_path / "out.txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.txt", "--output", "in.txt"], "names the input"),
        (["none.txt", "--output", "out.txt"], "Can't read"),
        (["latin.txt", "--output", "out.txt"], "not UTF-8"),
        (["in.txt", "--output", "folder"], "is no file"),
        (["in.txt", "--output", "none/out.txt"], "Can't write"),
        (["in.txt", "--output", "in.txt/out.txt"], "Can't write"),
        (["in.txt", "--output", "out.txt", "--seed", "-1"], "no whole number"),
        (["in.txt", "--output", "out.txt", "--seed", str(2**64)], "no whole number"),
        (["in.txt", "--output", "out.txt", "--remove", "2"], "no probability"),
        (["in.txt", "--output", "out.txt", "--remove", "nan"], "no probability"),
        (["in.txt", "--output", "out.txt", "--remove", "0.6", "--insert", "0.6"], "more than 1"),
        (["in.txt"], "--output"),
    ],
)
def test_mistakes_are_said_and_leave_nothing_behind(tmp_path, source, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"fine\nna\xefve")
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(LabError) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_failure_leaves_the_old_output_alone(tmp_path):
    (tmp_path / "in.txt").write_bytes(b"fine\n" * 9 + b"na\xefve")
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(LabError):
        augment_file(tmp_path / "in.txt", tmp_path / "out.txt", 0)
    assert (tmp_path / "out.txt").read_text() == "old"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", ["old", None])
def test_half_an_output_is_never_taken_for_a_whole_one(tmp_path, source, monkeypatch, failure, old):
    """The run ends in its third block; until then, whoever looks sees the old output or none."""
    target, blocks, part = tmp_path / "out.txt", [], stream.augment
    if old:
        target.write_text(old)

    def third_fails(*arguments, **options):
        blocks.append(target.read_text() if target.exists() else None)
        if len(blocks) == 3:
            raise failure
        return part(*arguments, **options)

    monkeypatch.setattr(corpora, "BLOCK", 1000)
    monkeypatch.setattr(stream, "augment", third_fails)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((LabError, KeyboardInterrupt)) as caught:
        augment_file(source, target, 0)
    if isinstance(failure, OSError):
        assert "Can't write" in str(caught.value)
        assert "No space left" in str(caught.value)
    assert blocks == [old] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not old or target.read_text() == old


def test_the_bytes_are_on_the_disk_before_they_get_the_name(tmp_path, source, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left"):
        augment_file(source, tmp_path / "out.txt", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_a_byte_order_mark_is_no_character(tmp_path):
    (tmp_path / "in.txt").write_bytes("\ufeffone two\r\nthree\nfour".encode())
    assert augment_file(tmp_path / "in.txt", tmp_path / "out.txt", 0, NONE).characters_in == 16
    assert (tmp_path / "out.txt").read_bytes() == b"one two\r\nthree\nfour"


def test_files_of_others_stay(tmp_path, source):
    """A run beside this one, to the same output, has an unfinished file of its own."""
    for name in (".out.txt.part", ".out.txt.1.part"):
        (tmp_path / name).write_text("another run's")
    augment_file(source, tmp_path / "out.txt", 0)
    assert {path.read_text() for path in tmp_path.glob(".*")} == {"another run's"}
    assert len([*tmp_path.iterdir()]) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such permissions")
def test_what_only_its_owner_may_read_stays_so(tmp_path, source):
    target = tmp_path / "out.txt"
    target.touch(0o600)
    augment_file(source, target, 0)
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_output_behind_a_link_is_replaced_and_the_link_stays(tmp_path, source):
    (tmp_path / "folder").mkdir()
    try:
        (tmp_path / "link.txt").symlink_to(tmp_path / "folder" / "real.txt")
    except OSError:
        pytest.skip("this system makes no links")
    augment_file(source, tmp_path / "link.txt", 0, NONE)
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "folder" / "real.txt").read_bytes() == source.read_bytes()
    with pytest.raises(LabError, match="names the input"):
        run(tmp_path / "folder" / "real.txt", "--output", tmp_path / "link.txt")
