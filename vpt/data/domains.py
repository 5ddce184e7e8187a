"""Domain folders, as those of PACS (Li et al., ICCV 2017) and Office-Home: root/domain/class/image."""

from __future__ import annotations

from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.folder import read_classes
from vpt.data.layout import check_no_splits, entered, folders_in
from vpt.errors import VptError, did_you_mean
from vpt.paths import resolve

NAMES = ("domains",)


def load(
    name: str,
    *,
    path: Path,
    train_domains: str | list[str] | None = None,
    test_domains: str | list[str] | None = None,
) -> DataSet:
    """Trains on some domains and tests on others, each of which is also a group of the test split.

    A val split is to be dealt from the training images, so that nothing is chosen by the domains tested on.

    Args:
        name: "domains".
        path: the root, as it stands or below VPT_DATA.
        train_domains: names of the folders to train on; all that are not tested on by default.
        test_domains: names of the folders to test on; all that are not trained on by default.

    Raises:
        VptError: neither is given, a domain does not exist or is in both, domains differ in their classes, or what are
            taken for classes look like splits.
    """
    root = resolve(path)
    root = entered(root) if root.is_dir() else root
    there = [folder.name for folder in folders_in(root)] if root.is_dir() else []
    if not there:
        raise VptError(f"{root} holds no folders: there must be one for each domain, with one for each class in it.")
    train, test = _listed(train_domains), _listed(test_domains)
    for option, chosen in (("train_domains", train), ("test_domains", test)):
        for domain in chosen:
            if domain not in there:
                raise VptError(f"data.{option}: {root} has no domain {domain!r}: {did_you_mean(domain, there)}")
    if not train and not test:
        raise VptError(f"set data.test_domains or data.train_domains: {root} has {', '.join(there)}.")
    train = train or [domain for domain in there if domain not in test]
    test = test or [domain for domain in there if domain not in train]
    both = sorted(set(train) & set(test))
    if both or not train or not test:
        wrong = f"{both[0]} is in both" if both else f"no domain of {root} is left to {'test' if train else 'train'} on"
        raise VptError(f"data.train_domains and data.test_domains will not do: {wrong}.")
    folders = {domain: entered(root / domain) for domain in train + test}
    for folder in folders.values():
        check_no_splits(folders_in(folder), "put the folders of the classes into that of the domain")
    classes = sorted({folder.name for domain in train for folder in folders_in(folders[domain])})
    parts = {domain: read_classes(folder, classes) for domain, folder in folders.items()}
    learned = {label for domain in train for label in parts[domain].labels}
    if len(learned) < max(len(classes), 2):
        raise VptError(f"{', '.join(train)} in {root}: there must be 2 or more classes, each with images in a domain.")
    empty = [domain for domain, files in parts.items() if not len(files)]
    if empty:
        raise VptError(f"{root / empty[0]} holds no images below folders of classes: add some, or leave it out.")
    groups, end = {}, 0
    for domain in test:
        start, end = end, end + len(parts[domain])
        groups[domain] = range(start, end)
    train_files, test_files = (_joined([parts[domain] for domain in chosen]) for chosen in (train, test))
    return DataSet(str(root), tuple(classes), train_files, test=test_files, groups=groups)


def _listed(domains: str | list[str] | None) -> list[str]:
    """Each name once, in the order given."""
    return list(dict.fromkeys([domains] if isinstance(domains, str) else domains or []))


def _joined(parts: list[Files]) -> Files:
    return Files([path for part in parts for path in part.paths], [label for part in parts for label in part.labels])
