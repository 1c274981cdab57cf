"""The pages, in the order of the menu, and the endpoints that several of them ask."""

from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.pages import curse, known, laws, planning, study, transfer

PAGES: tuple[Page, ...] = (planning.PAGE, transfer.PAGE, laws.PAGE, curse.PAGE, study.PAGE)
ENDPOINTS: tuple[Endpoint, ...] = (*known.ENDPOINTS, *(endpoint for page in PAGES for endpoint in page.endpoints))
