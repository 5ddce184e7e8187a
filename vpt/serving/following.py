"""A bank that follows a folder: tasks that come, change or go there are added, replaced or removed while it serves."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from vpt import saving
from vpt.errors import VptError
from vpt.paths import model_folder
from vpt.report.notes import tell
from vpt.serving.bank import PromptBank, found_tasks

Stamp = tuple[int, int, int]


class Following:
    """Looks after a folder now and then; what is wrong with a task is told once, and leaves the others as they are.

    Args:
        bank: opened from the folder.
        folder: of runs or saved models.
        seconds: between two looks.
    """

    def __init__(self, bank: PromptBank, folder: str | Path, *, seconds: float = 2.0) -> None:
        self.bank = bank
        self.folder = Path(folder)
        self.seconds = seconds
        self._seen = self._stamps()
        self._failed: dict[str, tuple[str, Stamp, str]] = {}
        self._ends = Event()
        self._thread = Thread(target=self._work, name="vpt-following", daemon=True)

    def begin(self) -> None:
        """Look from now on."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> list[str]:
        """Bring the bank up to date; what was done, or was wrong, in a sentence for each task."""
        now, said = self._stamps(), []
        for name in self._seen.keys() - now.keys():
            if name in self.bank:
                self.bank.remove(name)
                said.append(f"the task {name} is gone.")
        for name, (place, stamp) in now.items():
            if self._seen.get(name) == (place, stamp):
                continue
            try:
                if name in self.bank:
                    self.bank.replace(name, place)
                    said.append(f"the task {name} has changed, and is served as it is now.")
                else:
                    self.bank.add(name, place)
                    said.append(f"the task {name} is served too.")
            except VptError as error:
                # It may be half written: the next look tries again, and is silent if it fails as this one did.
                failed = (place, stamp, str(error))
                if self._failed.get(name) != failed:
                    said.append(f"the task {name} is as it was: {error}")
                self._failed[name] = failed
                continue
            self._seen[name] = place, stamp
        self._seen = {name: seen for name, seen in self._seen.items() if name in now}
        return said

    def _stamps(self) -> dict[str, tuple[str, Stamp]]:
        """Where each task lies, and what tells whether it was saved again."""
        found = {}
        for name, place in found_tasks(self.folder).items():
            try:
                facts = (Path(model_folder(place)) / saving.FACTS).stat()
            except OSError:
                # It goes at this moment.
                continue
            found[name] = (place, (facts.st_mtime_ns, facts.st_size, facts.st_ino))
        return found

    def _work(self) -> None:
        failed = ""
        while not self._ends.wait(self.seconds):
            try:
                said, failed = self.look(), ""
            except Exception as error:
                # Whatever a look meets, the next one may go well; what fails again and again is told once.
                sentence = f"{self.folder} could not be looked at ({error}): it is tried again."
                said, failed = [] if sentence == failed else [sentence], sentence
            for sentence in said:
                tell(sentence)
