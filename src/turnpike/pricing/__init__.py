"""Prices: which rates held for a request, and what its usage cost at them.

Built on a private snapshot of genai-prices, a small dated supplement, and the prices that an operator registers. The
order of precedence is provider-reported, registered, supplement, price data, unknown. Importing this package loads no
price data. ``turnpike.gateway.cost_model`` is its public face.
"""

from turnpike.pricing.book import PriceBook
from turnpike.pricing.quality import NOTES, Price
from turnpike.pricing.usage import APIS, read_usage

__all__ = ["APIS", "NOTES", "Price", "PriceBook", "read_usage"]
