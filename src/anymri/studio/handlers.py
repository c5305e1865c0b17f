"""Request handlers of the studio: each reads and checks one request, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from anymri.errors import AnymriError, ConfigurationError
from anymri.studio import editing, opening, results
from anymri.studio.entries import Entry
from anymri.studio.evaluations import as_json as evaluation_as_json
from anymri.studio.jobs import Batch, Job
from anymri.studio.studio import LONGEST_WAIT, NotFoundError, Studio, prepared
from anymri.studio.uploads import UploadError, receive

# A request in JSON is a few names; what is longer is not from the page.
_LONGEST_JSON = 1_000_000
# Seconds until a map that was announced is written.
_LONGEST_WRITING = 10.0
# A page of a case has its style and its picture in it, and no script.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"

Handler = Callable[[Request], Awaitable[Response]]


async def state(request: Request) -> Response:
    """Return what is open."""
    return JSONResponse(await run_in_threadpool(_studio(request).state))


async def upload(request: Request) -> Response:
    """Open the files that a browser sends."""
    studio = _studio(request)
    received = await receive(request.headers.get("content-type", ""), request.stream(), studio.new_folder())
    try:
        entry = await run_in_threadpool(studio.open_uploaded, received)
    except BaseException:
        received.remove()
        raise
    return JSONResponse({"entry": entry.as_json()})


async def case(request: Request) -> Response:
    """Return a case."""
    return JSONResponse(opening.describe(_entry(request)))


async def close(request: Request) -> Response:
    """Close a case."""
    _studio(request).close(request.path_params["id"])
    return JSONResponse({})


async def file(request: Request) -> Response:
    """Send a volume or map of a case; browsers decompress it, faster than the page could."""
    path = _entry(request).files.get(request.path_params["name"])
    end = anyio.current_time() + _LONGEST_WRITING
    while path is not None and not path.is_file() and anyio.current_time() < end:
        await anyio.sleep(0.05)  # maps of probability are written after the label map
    if path is None or not path.is_file():
        raise NotFoundError("This image does not exist any more.", "Load the page again.")
    return FileResponse(path, headers={"Content-Encoding": "gzip"}, media_type="application/octet-stream")


async def examine(request: Request) -> Response:
    """Begin to examine a case."""
    return _reply(opening.examine(_studio(request), _entry(request)))


async def assign(request: Request) -> Response:
    """Assign modalities to the scans of a case."""
    return JSONResponse(opening.assign(_entry(request), await _json(request)))


async def prepare(request: Request) -> Response:
    """Begin to prepare a case."""
    return _reply(opening.prepare(_studio(request), _entry(request)))


async def segment(request: Request) -> Response:
    """Begin to segment a case from a subset."""
    values = await _json(request)
    return _reply(results.segment(_studio(request), _entry(request), values.get("weights"), values.get("subset")))


async def begin_subsets(request: Request) -> Response:
    """Begin to segment a case from all subsets."""
    values = await _json(request)
    return _reply(results.begin_subsets(_studio(request), _entry(request), values.get("weights")))


async def subsets(request: Request) -> Response:
    """Return what is known of all subsets."""
    weights = request.query_params.get("weights")
    return JSONResponse(results.subsets(_studio(request), _entry(request), weights))


async def compare(request: Request) -> Response:
    """Compare two label maps."""
    values = await _json(request)
    return await _finished(editing.compare(_studio(request), _entry(request), values.get("a"), values.get("b")))


async def correct(request: Request) -> Response:
    """Save a corrected label map: one byte per voxel, x fastest."""
    studio, entry = _studio(request), _entry(request)
    x, y, z = prepared(entry)["shape"]
    content = await _body(request, x * y * z)
    author, based_on = (unquote(request.headers.get(name, "")) for name in ("x-author", "x-based-on"))
    voxels = entry.of_case.maps / f"painted-{entry.versions}.raw"
    await run_in_threadpool(voxels.write_bytes, content)
    try:
        return await _finished(editing.correct(studio, entry, voxels, author, based_on))
    except AnymriError:
        voxels.unlink(missing_ok=True)
        raise


async def job(request: Request) -> Response:
    """Return the state of a job."""
    return _reply(_studio(request).job(request.path_params["id"]))


async def cancel(request: Request) -> Response:
    """Cancel a job."""
    return _reply(_studio(request).cancel(request.path_params["id"]))


async def archive(request: Request) -> Response:
    """Send the result of a subset as a zip archive."""
    made = await _exported(request)
    name = f"{_entry(request).name}-{request.query_params['subset']}.zip"
    return FileResponse(made["zip"], filename=name, media_type="application/zip")


async def report(request: Request) -> Response:
    """Send the page of the result of a subset."""
    made = await _exported(request)
    return FileResponse(made["page"], media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})


async def _exported(request: Request) -> Mapping[str, Any]:
    weights, subset = (request.query_params.get(name) for name in ("weights", "subset"))
    made: Mapping[str, Any] = (await _over(results.export(_studio(request), _entry(request), weights, subset))).result
    return made


async def evaluation(request: Request) -> Response:
    """Return the tables of an evaluation."""
    folder = _studio(request).evaluation(request.path_params["id"])
    return JSONResponse(await run_in_threadpool(evaluation_as_json, folder))


async def open_evaluated(request: Request) -> Response:
    """Open a case of an evaluation."""
    values = await _json(request)
    return await _finished(_studio(request).open_evaluated(request.path_params["id"], str(values.get("case"))))


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _entry(request: Request) -> Entry:
    return _studio(request).case(request.path_params["id"])


async def _json(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; an empty one without a body."""
    content = await _body(request, _LONGEST_JSON)
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError("The request is not a JSON object.", "Load the page again.")
    return found


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request, of which no more is read than it may have."""
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > most:
            raise UploadError(f"The request has more than {most} bytes.", "Load the page again.")
    return bytes(content)


def _reply(work: Job | Batch) -> Response:
    return JSONResponse(work.as_json())


async def _over(work: Job) -> Job:
    """Wait until a job is over, and return it; raise its error."""
    await anyio.to_thread.run_sync(work.over.wait, LONGEST_WAIT, abandon_on_cancel=True)
    if work.state == "done":
        return work
    error = work.as_json()["error"] or {"what": "The work was cancelled.", "fix": "Start it again when you need it."}
    raise AnymriError(error["what"], error["fix"])


async def _finished(work: Job) -> Response:
    return JSONResponse((await _over(work)).result)
