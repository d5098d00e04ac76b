"""Keys are made once, kept from others' eyes, and a file that cannot be used says what to do."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from responders import keys
from responders.keys import KeyFileError


def test_keys_are_made_once_also_by_several_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(keys.load_or_create, [tmp_path] * 4))
    assert len({(each.engine.key_id, each.operator.key_id) for each in made}) == 1
    loaded = keys.load(tmp_path)
    assert loaded.engine.key_id == made[0].engine.key_id
    for each, role in ((loaded.engine, "engine"), (loaded.operator, "operator")):
        trusted = loaded.trusted().get(each.key_id)
        assert trusted is not None
        assert trusted.role == role
    for name in ("engine.key", "operator.key"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "engine.key",
        "operator.key",
        "trusted.json",
    ]


def test_a_private_key_is_not_shown(tmp_path: Path) -> None:
    made = keys.load_or_create(tmp_path)
    secret = (tmp_path / "keys" / "engine.key").read_text().strip()
    assert secret not in repr(made)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "engine.key").chmod(0o644), "chmod 600"),
        (lambda folder: (folder / "engine.key").write_text("no key\n"), "is not a usable key"),
        (lambda folder: (folder / "operator.key").unlink(), "no operator key"),
        (lambda folder: (folder / "trusted.json").unlink(), "no trusted keys"),
    ],
)
def test_a_key_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    keys.load_or_create(tmp_path)
    spoil(tmp_path / "keys")
    with pytest.raises(KeyFileError, match=says) as caught:
        keys.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_key_that_nobody_trusts_is_not_signed_with(tmp_path: Path) -> None:
    keys.load_or_create(tmp_path)
    (tmp_path / "keys" / "engine.key").unlink()
    with pytest.raises(KeyFileError, match="does not trust engine-"):
        keys.load_or_create(tmp_path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="--data-dir"):
        keys.load_or_create(tmp_path / "file")
