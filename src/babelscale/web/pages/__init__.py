"""The pages, in the order of the menu, and all endpoints."""

from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.pages import adding_languages, laws, metadata, planning, study, transfer

PAGES: tuple[Page, ...] = (planning.PAGE, transfer.PAGE, laws.PAGE, adding_languages.PAGE, study.PAGE)
ENDPOINTS: tuple[Endpoint, ...] = (*metadata.ENDPOINTS, *(endpoint for page in PAGES for endpoint in page.endpoints))
