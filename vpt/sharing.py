"""Models saved, and shared on the Hugging Face hub by huggingface_hub's mixin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypeVar

from huggingface_hub import HfApi, ModelHubMixin
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from torch import Tensor

from vpt import saving
from vpt.errors import VptError
from vpt.paths import model_folder
from vpt.report.card import card

T = TypeVar("T")

MESSAGE = "What was learned, by vpt"


class Shared(ModelHubMixin):
    """A model that can be saved, pushed to the hub, and had from there; the frozen backbone never is.

    A subclass has `facts` and `tuned_state`.
    """

    # The mixin would copy what a model is made with, encoders included, where it finds no config: `facts` say it all.
    _hub_mixin_config: Any = {}  # noqa: RUF012

    if TYPE_CHECKING:
        facts: Callable[[str | None], dict[str, Any]]
        tuned_state: Callable[[], dict[str, Tensor]]

    def save_pretrained(  # type: ignore[override]
        self,
        folder: str | Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        about: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        config: None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what is tuned, the facts to rebuild the rest, and a card; never the frozen backbone.

        Args:
            folder: made if need be.
            metrics: figures to keep with the model, by name.
            overwrite: whether a folder that holds something may be written to.
            about: for the card: "license", "data", "command" and "config".
            fingerprint: of the frozen weights, where it is known.
            config: nothing; huggingface_hub's mixin says it.
            model_card_kwargs: `metrics`, `about` and the "name" of the repository, as the mixin says them.

        Raises:
            VptError: the folder holds something and `overwrite` is not set.
        """
        said = {"metrics": metrics, "about": about, "name": Path(folder).name, **(model_card_kwargs or {})}
        facts = self.facts(fingerprint)
        # Before the versions, where they have stood from the first format on.
        versions = facts.pop("versions")
        facts |= {"metrics": dict(said["metrics"] or {}), "versions": versions}
        facts |= {"about": dict(said["about"])} if said["about"] else {}
        saving.write(folder, self.tuned_state(), facts, card(facts, said["name"]), overwrite=overwrite)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **options: Any,
    ) -> Self:
        """What `save_pretrained` wrote, or `push_to_hub` has shared.

        Args:
            source: a folder, or a repository of the hub, "user/name" or "user/name@revision".
            revision: a branch, tag or commit; the main branch by default. A commit is the only one that never changes.
            token: for the hub; by default that of `hf auth login`.
            cache_dir: where what is downloaded is kept.
            force_download: download it anew.
            local_files_only: take it from the cache.
            options: of `vpt.load`, such as weights=FILE.

        Raises:
            VptError: as `vpt.load`.
        """
        hub = {"cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only}
        # To load a model is to assemble one, which stands above it.
        load = import_module("vpt.assemble").load
        found: Self = load(source, revision=revision, hub={**hub, "token": token}, **options)
        return found

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        license: str | None = None,
        data: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = MESSAGE,
    ) -> str:
        """Share what was learned as a repository of the hub, which is made if need be.

        Args:
            repo_id: "user/name".
            metrics: figures to keep with the model, such as {"test/top1": 0.93}, which the hub shows where `data` is
                named.
            license: of what was learned, as the hub names it, e.g. "apache-2.0".
            data: name of the data set.
            private: whether a new repository can be seen by others.
            token: for the hub; by default that of `hf auth login`.
            branch: to push to, in place of main.
            create_pr: open a pull request in place of pushing.
            commit_message: says what is pushed.

        Returns:
            The URL of the commit; `vpt.load("user/name", revision=COMMIT)` pins it.

        Raises:
            VptError: the hub refuses it.
        """
        about = {key: value for key, value in (("license", license), ("data", data)) if value is not None}
        how: dict[str, Any] = {"private": private, "token": token, "branch": branch, "create_pr": create_pr}
        kept = {"metrics": metrics, "about": about, "name": repo_id}
        push = super().push_to_hub
        return pushed(repo_id, lambda: push(repo_id, model_card_kwargs=kept, commit_message=commit_message, **how))


def push(
    source: str | Path,
    repo_id: str,
    *,
    license: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
    commit_message: str = MESSAGE,
) -> str:
    """Share a run, or a folder that `save_pretrained` wrote, as it lies; the backbone is not needed for it.

    Args:
        source: the folder.
        repo_id: "user/name".
        license: of what was learned, as the hub names it.
        private: as in `Shared.push_to_hub`, and so are the others.
        token: likewise.
        branch: likewise.
        create_pr: likewise.
        commit_message: likewise.

    Returns:
        The URL of the commit.

    Raises:
        VptError: there is no saved model, it is damaged, or the hub refuses it.
    """
    folder = Path(model_folder(source))
    if not folder.is_dir():
        raise VptError(f"there is no folder {str(source)!r}: name one that save_pretrained or a run wrote.")
    tensors, _ = saving.read(folder)
    facts = json.loads((folder / saving.FACTS).read_text(encoding="utf-8"))
    facts = {key: value for key, value in facts.items() if key not in ("format", "tensors", "digest")}
    options = facts["backbone"].get("options", {})
    if isinstance(options.get("weights"), str):
        # In models of the first format the path stands there.
        options["weights"] = Path(options["weights"].replace("\\", "/")).name
    if license is not None:
        facts["about"] = {**facts.get("about", {}), "license": license}
    api = HfApi(token=token)

    def action() -> str:
        api.create_repo(repo_id, private=private, exist_ok=True)
        with TemporaryDirectory() as place:
            saving.write(place, tensors, facts, card(facts, repo_id), overwrite=True)
            how: dict[str, Any] = {"revision": branch, "create_pr": create_pr, "commit_message": commit_message}
            return str(api.upload_folder(repo_id=repo_id, folder_path=place, **how))

    return pushed(repo_id, action)


def pushed(repo_id: str, action: Callable[[], T]) -> T:
    """What `action` gives, and what the hub says against it in one sentence.

    Raises:
        VptError: the hub refuses it, or cannot be reached.
    """
    try:
        return action()
    except LocalTokenNotFoundError as error:
        raise VptError(f"{repo_id} cannot be pushed without a token of the hub: hf auth login, or token=….") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise VptError(f"{repo_id} could not be pushed to the Hugging Face hub: {reason}") from error
