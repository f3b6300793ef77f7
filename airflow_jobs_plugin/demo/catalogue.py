"""A small shop's catalogue over HTTP: what the demo's job and the tests call.

Every API is ``POST /{api}`` with its parameters as a JSON object:

==========================  ===========================================================================
``list-products``           ``{"page": 1, "pageSize": 10}``: a page of products and ``nextPage`` or null
``product-details``         ``{"id": 7}``: one product
``stock-level``             ``{"id": 7}``: 503 twice for each Idempotency-Key, then the stock
``discontinued-product``    ``{"id": 7}``: always 410
``price-history``           ``{"id": 7}``: the answer takes its time
``shop-front``              ``{"categories": ["toys"]}``: the categories; appends the first page of each
``category-page``           ``{"category": "toys", "page": 1}``: ids of products; appends their details, and the
                            next page
==========================  ===========================================================================
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply

PRODUCTS = 60
#: Products on a page of a category.
PAGE = 6
CATEGORIES = ("garden", "kitchen", "office", "toys", "sports")
MATERIALS = ("Oak", "Steel", "Cotton", "Glass", "Paper", "Copper")
THINGS = ("Chair", "Kettle", "Lamp", "Notebook", "Ball", "Vase", "Basket")


def product(number: int) -> dict[str, Any]:
    """Return product *number* (1…60), always the same one."""
    return {
        "id": number,
        "name": f"{MATERIALS[number % len(MATERIALS)]} {THINGS[number % len(THINGS)]}",
        "category": CATEGORIES[number % len(CATEGORIES)],
        "price": round(4.99 + number * 3.5, 2),
        "currency": "EUR",
    }


class Refusal(Exception):
    """An API's answer that is not a success."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, {"error": {"code": code, "message": message}})


def _number(parameters: dict[str, Any], name: str, default: int | None = None) -> int:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refusal(400, "bad_parameter", f"{name} must be a positive integer, not {value!r}")
    return value


class Catalogue(LocalServer):
    """The catalogue on a free port; its ``ledger`` has every call.

    :param slow: seconds that ``price-history`` takes
    :param failures: how often ``stock-level`` fails before it works, for each Idempotency-Key
    """

    def __init__(self, *, slow: float = 2.0, failures: int = 2) -> None:
        super().__init__()
        self.slow = slow
        self.failures = failures
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._apis: dict[str, Callable[[dict[str, Any], Received], Any]] = {
            "list-products": self._list_products,
            "product-details": self._product_details,
            "stock-level": self._stock_level,
            "discontinued-product": self._discontinued_product,
            "price-history": self._price_history,
            "shop-front": self._shop_front,
            "category-page": self._category_page,
        }

    def reply(self, request: Received) -> Reply:
        """Return what the API named by the path says to the JSON parameters."""
        name = request.path.partition("?")[0].strip("/")
        try:
            if name not in self._apis:
                raise Refusal(404, "unknown_api", f"no API {name!r}; there are {', '.join(self._apis)}")
            if request.method != "POST":
                raise Refusal(405, "method_not_allowed", f"{name} is called with POST, not {request.method}")
            if not isinstance(request.body, dict):
                raise Refusal(400, "bad_request", "the parameters must be one JSON object")
            return Reply(200, self._apis[name](request.body, request))
        except Refusal as refusal:
            return refusal.reply

    def _list_products(self, parameters: dict[str, Any], _: Received) -> dict[str, Any]:
        page = _number(parameters, "page", 1)
        size = min(_number(parameters, "pageSize", 10), 100)
        first = (page - 1) * size + 1
        last = min(first + size - 1, PRODUCTS)
        return {
            "page": page,
            "products": [product(number) for number in range(first, last + 1)],
            "total": PRODUCTS,
            "nextPage": page + 1 if last < PRODUCTS else None,
        }

    def _product_details(self, parameters: dict[str, Any], _: Received) -> dict[str, Any]:
        number = self._existing(parameters)
        return {
            **product(number),
            "description": f"Number {number} of our range.",
            "weightGrams": 150 * number,
        }

    def _stock_level(self, parameters: dict[str, Any], request: Received) -> dict[str, Any]:
        number = self._existing(parameters)
        key = request.headers.get("idempotency-key", f"id-{number}")
        with self._lock:
            self._calls[key] += 1
            call = self._calls[key]
        if call <= self.failures:
            raise Refusal(503, "warehouse_busy", f"the warehouse does not answer ({call} of {self.failures})")
        return {"id": number, "stock": number * 37 % 101, "calls": call}

    def _discontinued_product(self, parameters: dict[str, Any], _: Received) -> Any:
        number = _number(parameters, "id")
        raise Refusal(410, "discontinued", f"product {number} is no longer sold")

    def _price_history(self, parameters: dict[str, Any], _: Received) -> dict[str, Any]:
        number = self._existing(parameters)
        time.sleep(self.slow)
        price = product(number)["price"]
        return {"id": number, "prices": [round(price * (1 + change / 100), 2) for change in (-8, 3, -2, 0)]}

    def _shop_front(self, parameters: dict[str, Any], _: Received) -> dict[str, Any]:
        wanted = [name for name in parameters.get("categories", CATEGORIES) if name in CATEGORIES]
        pages = [{"api": "category-page", "parameters": {"category": name, "page": 1}} for name in wanted]
        return {"categories": wanted, "extendedPayloads": pages}

    def _category_page(self, parameters: dict[str, Any], _: Received) -> dict[str, Any]:
        category, page = parameters.get("category"), _number(parameters, "page", 1)
        found = [number for number in range(1, PRODUCTS + 1) if product(number)["category"] == category]
        if not found:
            raise Refusal(404, "no_such_category", f"{category!r}: there are {', '.join(CATEGORIES)}")
        shown = found[(page - 1) * PAGE : page * PAGE]
        more: list[dict[str, Any]] = [{"api": "product-details", "parameters": {"id": number}} for number in shown]
        if page * PAGE < len(found):
            more.append({"api": "category-page", "parameters": {"category": category, "page": page + 1}})
        return {"category": category, "page": page, "products": shown, "extendedPayloads": more}

    @staticmethod
    def _existing(parameters: dict[str, Any]) -> int:
        number = _number(parameters, "id")
        if number > PRODUCTS:
            raise Refusal(404, "no_such_product", f"product {number}: there are {PRODUCTS}")
        return number
