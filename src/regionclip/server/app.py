"""The service's routes: each reads its request, has the model's thread compute, and answers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from torch import Tensor

from regionclip.detect import Detector
from regionclip.server.batching import NotRunningError
from regionclip.server.forms import check_form
from regionclip.server.gate import Gate, error_response
from regionclip.server.problems import RequestError
from regionclip.server.reading import check_texts
from regionclip.server.schemas import (
    UNKNOWN_FIELD,
    DetectAnswer,
    DetectInput,
    Detection,
    HealthAnswer,
    ImageSize,
    ModelAnswer,
    NamedScore,
    ProblemAnswer,
    Region,
    RegionsAnswer,
    RegionsInput,
    TextsAnswer,
    TextsInput,
    VocabulariesAnswer,
    VocabularyAnswer,
    VocabularyInput,
    VocabularySize,
)
from regionclip.server.service import Service
from regionclip.server.settings import ServiceSettings
from regionclip.server.vocabularies import StoredVocabulary
from regionclip.structures import Detections

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": ProblemAnswer, "description": "The request cannot be answered as it is"},
    401: {"model": ProblemAnswer, "description": "The key is missing or wrong"},
    408: {"model": ProblemAnswer, "description": "The request arrived too slowly"},
    413: {"model": ProblemAnswer, "description": "The request is too large"},
    422: {"model": ProblemAnswer, "description": "A field is missing or has another type"},
    429: {"model": ProblemAnswer, "description": "Too many requests at once"},
    503: {"model": ProblemAnswer, "description": "Takes too long, begins or ends; ask again"},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemAnswer, "description": "There is no such vocabulary"}
}
NO_ROOM: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemAnswer, "description": "There is no room for one more vocabulary"}
}
KEYS = (
    APIKeyHeader(name="X-API-Key", scheme_name="X-API-Key", auto_error=False),
    HTTPBearer(scheme_name="Bearer", auto_error=False),
)
"""Where a key is sent, one way or the other, for the description; the gate looks at it."""
WAYS_OUT = {
    404: "there is nothing at {path}; GET /openapi.json lists what there is",
    405: "{path} does not take {method}; GET /openapi.json lists what it takes",
}
"""For what the framework refuses in two words."""
ABOUT = (
    "Boxes with names for images, text-aligned vectors for regions and for texts. Errors are "
    'answered with `{"detail": "one sentence"}`.'
)


def create_app(detector: Detector, settings: ServiceSettings | None = None) -> FastAPI:
    """An ASGI application around a detector, for uvicorn or any other server.

    Args:
        detector: From :func:`regionclip.load`, with proposals.
        settings: Limits, keys and batching; ``None`` takes the defaults.
    """
    service = Service(detector, settings or ServiceSettings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    return app_around(service, lifespan)


def app_around(
    service: Service, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> FastAPI:
    """The application of a service, which ``lifespan`` or the caller starts and closes."""
    settings = service.settings

    app = FastAPI(
        title="regionclip",
        version=version("regionclip"),
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from another host
        redoc_url=None,
    )
    app.add_middleware(
        Gate, limits=settings.limits, metrics=service.metrics, api_keys=settings.api_keys
    )
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(NotRunningError, _on_end)
    keys = [Security(scheme) for scheme in KEYS] if settings.api_keys else []
    for routes in (_work_routes(service), _vocabulary_routes(service)):
        app.include_router(routes, responses=PROBLEMS, dependencies=keys)
    app.include_router(_state_routes(service))
    return app


def _work_routes(service: Service) -> APIRouter:
    routes = APIRouter()
    model = service.settings.model_name
    form_options: dict[str, Any] = {"responses": NOT_FOUND, "dependencies": [Depends(check_form)]}

    @routes.post("/v1/detect", response_model=DetectAnswer, **form_options)
    async def detect(form: DetectInput) -> Response:
        """Find the things you name in an image."""
        size_hw, found = await service.detect(form)
        return await service.written(
            lambda: DetectAnswer(model=model, image=_size(size_hw), detections=_detections(found))
        )

    @routes.post("/v1/regions", response_model=RegionsAnswer, **form_options)
    async def encode_regions(form: RegionsInput) -> Response:
        """Vectors of your own regions of an image, and their best names."""
        size_hw, vectors, names = await service.regions(form)
        return await service.written(
            lambda: RegionsAnswer(
                model=model, image=_size(size_hw), regions=_regions(vectors, names)
            )
        )

    @routes.post("/v1/texts", response_model=TextsAnswer)
    async def encode_texts(asked: TextsInput) -> Response:
        """Vectors of texts, comparable with those of regions by cosine similarity."""
        check_texts("texts", asked.texts, service.settings.limits)
        vectors = await service.encode_texts(asked.texts)
        encoder_id = service.detector.encoder_id
        return await service.written(
            lambda: TextsAnswer(model=model, encoder_id=encoder_id, vectors=vectors.tolist())
        )

    @routes.get("/v1/model")
    async def describe() -> ModelAnswer:
        """What this service runs, and what it takes."""
        known = service.class_vocabulary
        return ModelAnswer(
            model=model,
            version=version("regionclip"),
            encoder_id=service.detector.encoder_id,
            classes=None if known is None else list(known.names),
            limits=asdict(service.settings.limits),
        )

    return routes


def _vocabulary_routes(service: Service) -> APIRouter:
    routes = APIRouter()
    store = service.vocabularies

    @routes.post("/v1/vocabularies", status_code=201, responses=NO_ROOM)
    async def create_vocabulary(asked: VocabularyInput) -> VocabularyAnswer:
        """Encode class names once, and use them by their id; the same names have the same id."""
        return _vocabulary(await service.keep_vocabulary(asked.names, asked.templates))

    @routes.get("/v1/vocabularies")
    async def list_vocabularies() -> VocabulariesAnswer:
        """All that are kept, the oldest first, without their names."""
        return VocabulariesAnswer(
            vocabularies=[
                VocabularySize(
                    id=each.id,
                    num_names=len(each.vocabulary.names),
                    num_templates=len(each.vocabulary.templates),
                )
                for each in store.all()
            ]
        )

    @routes.get("/v1/vocabularies/{vocabulary_id}", responses=NOT_FOUND)
    async def show_vocabulary(vocabulary_id: str) -> VocabularyAnswer:
        """One vocabulary."""
        return _vocabulary(store.get(vocabulary_id))

    @routes.delete("/v1/vocabularies/{vocabulary_id}", status_code=204, responses=NOT_FOUND)
    async def delete_vocabulary(vocabulary_id: str) -> None:
        """Forget a vocabulary."""
        store.delete(vocabulary_id)

    return routes


def _state_routes(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.head("/health", include_in_schema=False)  # as some load balancers ask
    @routes.get("/health")
    async def health() -> HealthAnswer:
        """Whether the process lives."""
        return HealthAnswer(status="alive")

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", responses={503: {"model": ProblemAnswer}})
    async def ready() -> HealthAnswer:
        """Whether requests are taken."""
        if not service.is_ready:
            raise NotRunningError("the service begins or ends; ask again, or another one")
        return HealthAnswer(status="ready")

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


def _size(size_hw: tuple[int, int]) -> ImageSize:
    height, width = size_hw
    return ImageSize(width=width, height=height)


def _regions(vectors: Tensor, names: Sequence[Sequence[tuple[str, float]]]) -> list[Region]:
    return [
        Region(vector=vector, names=[NamedScore(name=name, score=score) for name, score in own])
        for vector, own in zip(vectors.tolist(), names, strict=True)
    ]


def _detections(found: Detections) -> list[Detection]:
    vectors = [None] * len(found) if found.features is None else found.features.tolist()
    return [
        Detection(
            vector=vector, **{name: row[name] for name in Detection.model_fields if name in row}
        )
        for row, vector in zip(found.to_dict(), vectors, strict=True)
    ]


def _vocabulary(stored: StoredVocabulary) -> VocabularyAnswer:
    own = stored.vocabulary
    return VocabularyAnswer(
        id=stored.id,
        names=list(own.names),
        templates=list(own.templates),
        encoder_id=own.encoder_id,
    )


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    """All that is wrong with the fields, in one sentence."""
    assert isinstance(error, RequestValidationError)
    parts = [
        each["msg"]
        if each["type"] == UNKNOWN_FIELD
        else f"{'.'.join(str(part) for part in each['loc'][1:]) or 'body'}: {each['msg']}"
        for each in error.errors()
    ]
    return error_response(RequestError(422, "; ".join(parts[:5])))


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    """What the routes refuse, and the framework: unknown paths and methods, broken forms."""
    assert isinstance(error, HTTPException)
    if error.status_code in WAYS_OUT and not isinstance(error, RequestError):
        sentence = WAYS_OUT[error.status_code]
        error.detail = sentence.format(path=request.url.path, method=request.method)
    return error_response(error)


async def _on_end(_: Request, error: Exception) -> JSONResponse:
    """A request that came too late."""
    return error_response(RequestError(503, str(error)))
