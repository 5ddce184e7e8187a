"""What a backbone is called: a name without its library, a folder, and the near names of all libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vpt.errors import VptError

# Files that say which library a folder is of, in the order in which they are looked for.
OPEN_CLIP, CONFIG = "open_clip_config.json", "config.json"


def with_library(name: str, libraries: Collection[str], names: Callable[[str], Iterable[str]]) -> str:
    """ "library/model" of a name that may lack its library.

    Args:
        name: as it was written.
        libraries: those that there are.
        names: the models of one of them.

    Raises:
        VptError: no library has such a model, or several have; the near names are suggested.
    """
    library, _, rest = name.partition("/")
    if library in libraries and rest:
        return name
    if Path(name).is_dir():
        return of_folder(Path(name))
    own = {each: list(names(each)) for each in libraries}
    found = [f"{each}/{name}" for each in libraries if _has(own[each], name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise VptError(f"backbone {name!r} is in several libraries: say {' or '.join(found)}.")
    known = {_plain(model): f"{each}/{model}" for each in reversed(list(libraries)) for model in own[each]}
    wanted = _plain(rest if rest and get_close_matches(library, libraries, n=1, cutoff=0.6) else name)
    near = [known[each] for each in get_close_matches(wanted, known, n=3, cutoff=0.6)]
    hub = [f"hf/{name}"] if name.count("/") == 1 and not near else []
    raise VptError(
        f"backbone {name!r} names no library: write it as 'library/model', where library is one of "
        f"{', '.join(libraries)}; did you mean {' or '.join([*near, *hub]) or 'timm/vit_base_patch16_224'}?"
    )


def _has(models: Collection[str], name: str) -> bool:
    """Whether a model is listed, with this tag, some tag, or without one."""
    return name in models or any(model.startswith((f"{name}.", f"{name}/")) for model in models)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def of_folder(folder: Path) -> str:
    """The name of the model that a folder holds, by the config in it.

    Raises:
        VptError: it holds none, or one that is of no library.
    """
    if (folder / OPEN_CLIP).is_file():
        return f"open_clip/local-dir:{folder}"
    if not (folder / CONFIG).is_file():
        raise VptError(f"the folder {folder} holds no backbone: {CONFIG} or {OPEN_CLIP} is missing.")
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise VptError(f"{folder / CONFIG} is damaged ({error}): copy or download it again.") from error
    if isinstance(config, dict) and "architecture" in config:
        return f"timm/local-dir:{folder}"
    if isinstance(config, dict) and "model_type" in config:
        return f"hf/{folder}"
    raise VptError(f"{folder / CONFIG} is of no library that is known: write the backbone as library/{folder}.")
