"""The cases: what each says, what it needs of a stack, and how its application is set up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from turnpike.control.quota import Quota
from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.stack import Feature, Stack

__all__ = ["Case", "SettingsOf", "case", "cases"]

SettingsOf = Mapping[str, Any] | Callable[[Stack], Mapping[str, Any]]

_SUBJECTS = (
    "authentication",
    "hostile_headers",
    "limits",
    "problems",
    "identity",
    "isolation",
    "streams",
    "disconnects",
    "failures",
    "choke_point",
    "routes",
    "own_identities",
    "websockets",
)
_cases: dict[str, Case] = {}


@dataclass(frozen=True, eq=False)
class Case:
    """One thing that every stack does.

    Attributes:
        subject: what it is about; the module that holds it.
        name: its name within the subject.
        says: what it says of the stack, in a sentence.
        needs: the features without which it says nothing.
        needs_process: whether it looks at what only a transport of this process can show.
        settings: what differs from the service's ordinary settings, or a function of the stack that returns it.
        identities: whether the application identifies requests by sessions of its own.
        quota: makes the quota store of the application's gate.
    """

    subject: str
    name: str
    says: str
    run: Callable[[Bench], None]
    needs: frozenset[Feature] = frozenset()
    needs_process: bool = False
    settings: SettingsOf = field(default_factory=dict)
    identities: bool = False
    quota: Callable[[], Quota] | None = None

    @property
    def id(self) -> str:
        """``subject.name``."""
        return f"{self.subject}.{self.name}"

    @property
    def is_ordinary(self) -> bool:
        """Whether its application is set up like most others, so that it can be kept for the next case."""
        return not self.settings and not self.identities and self.quota is None

    def why_not(self, stack: Stack, *, in_process: bool = True) -> str | None:
        """Return why the case says nothing of ``stack``, or ``None`` if it does."""
        if self.needs_process and not in_process:
            return "what it looks at cannot be seen from outside of the server"
        return next((reason for feature in sorted(self.needs) if (reason := stack.why_not(feature))), None)


CaseT = TypeVar("CaseT", bound=Callable[..., None])


def case(
    *needs: Feature,
    settings: SettingsOf | None = None,
    identities: bool = False,
    quota: Callable[[], Quota] | None = None,
    needs_process: bool = False,
    each: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[CaseT], CaseT]:
    """Register a case. Its docstring is what it says; its module is its subject.

    Args:
        needs: features without which the case says nothing.
        settings: what differs from the service's ordinary settings, or a function of the stack that returns it.
        identities: whether the application identifies requests by sessions of its own.
        quota: makes the quota store of the application's gate.
        needs_process: whether it looks at what only a transport of this process can show.
        each: makes a case of each entry: the name it is known by, and the further arguments of the function.
    """

    def register(function: CaseT) -> CaseT:
        subject, name = function.__module__.rpartition(".")[2], function.__name__
        for variant, arguments in (each or {"": ()}).items():
            full_name = f"{name}[{variant}]" if variant else name
            made = Case(
                subject=subject,
                name=full_name,
                says=_sentence(function) + (f" ({variant})" if variant else ""),
                run=_bound(function, arguments),
                needs=frozenset(needs),
                needs_process=needs_process,
                settings=settings if settings is not None else {},
                identities=identities,
                quota=quota,
            )
            if made.id in _cases:
                raise ValueError(f"there are two cases {made.id}")
            _cases[made.id] = made
        return function

    return register


def cases() -> tuple[Case, ...]:
    """Return all cases, subject by subject. Running ordinary ones in a row is faster."""
    for subject in _SUBJECTS:
        import_module(f"turnpike.testing.contract.scenarios.{subject}")
    return tuple(sorted(_cases.values(), key=lambda made: _SUBJECTS.index(made.subject)))


def _bound(function: Callable[..., None], arguments: tuple[Any, ...]) -> Callable[[Bench], None]:
    return lambda bench: function(bench, *arguments)


def _sentence(function: Callable[..., None]) -> str:
    return " ".join((function.__doc__ or function.__name__).strip().split("\n\n")[0].split()).rstrip(".")
