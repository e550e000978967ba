"""The parts of `call_overhead.py`. A worker process imports them in environments that know nothing of each other."""
