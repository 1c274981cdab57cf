"""The errors a user can meet. Each says what is wrong and, in `hint`, what to do about it."""


class BabelscaleError(Exception):
    """Base of every error raised on purpose.

    `message` names the file, row or field; `hint` says what to do. The command line prints both and exits with
    `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class InputError(BabelscaleError, ValueError):
    """An input (a file, a table, a design, an argument) cannot be used as it is."""

    exit_code = 2


class DomainError(BabelscaleError, ArithmeticError):
    """A law has no loss at an allocation outside the domain of its equation (for instance D_eff <= 0)."""


class StudyError(BabelscaleError):
    """A study could not go on (a run failed, a folder belongs to another study)."""


class Stopped(StudyError):
    """The user stopped a command: finished work is saved, and the same command continues from there."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class BabelscaleWarning(UserWarning):
    """A problem that the user should know of and that does not stop the work."""
