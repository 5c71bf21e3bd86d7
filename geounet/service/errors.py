"""What a client of the service can get wrong; `api.errors` maps each class to one HTTP status."""

from geounet.errors import GeounetError


class ServiceError(GeounetError):
    """Root of the service's own errors. `field` names the part of the request that is to blame, where there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(ServiceError):
    """No such scene, job, map, model, feature or tile - or it belongs to somebody else."""


class BadRequestError(ServiceError):
    """A parameter or the body makes no sense."""


class ConflictError(ServiceError):
    """The thing is in a state that does not allow this: a scene that a running job reads, a job that is done."""


class IdempotencyError(ServiceError):
    """The same idempotency key came with a different request."""


class TooLargeError(ServiceError):
    """The body is over the limit that holds for it."""


class QuotaError(ServiceError):
    """A key's share is used up, or too many of its jobs are open."""


class StorageError(ServiceError):
    """The disk, or the part of it that the service may use, is full."""


class HostileSceneError(ServiceError):
    """The upload is no GeoTIFF, or one that would cost far more to read than a real scene does."""


class UnfitSceneError(ServiceError):
    """The scene is sound, but the model cannot use it with these options."""


class UnauthenticatedError(ServiceError):
    """A key is required, and there is none or it is not known."""


class ForbiddenError(ServiceError):
    """The key is known, but its scopes do not cover this."""


class BusyError(ServiceError):
    """The part of the service that this needs is down or overloaded; worth another try."""


class LostLeaseError(ServiceError):
    """Another worker holds this job now; whatever this one still has to say is ignored."""


class UnfitCorrectionsError(ServiceError):
    """Corrections that cannot be used on the map they were sent to."""
