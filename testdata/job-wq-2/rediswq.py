"""A work queue in Redis, with the interface and the keys of the one in Kubernetes' guide.

Queue N is the list N. Who leases an item moves it to N:processing, and says so for the
time of the lease in N:leased_by_session:HASH, where HASH is that of the item. Who has
completed it removes it from N:processing. The queue is empty when both lists are.
"""

import hashlib
import uuid

import redis


class RedisWQ:
    def __init__(self, name, **connection):
        self._redis = redis.StrictRedis(**connection)
        self._session = str(uuid.uuid4())
        self._waiting = name
        self._processing = name + ":processing"
        self._lease = name + ":leased_by_session:"

    def sessionID(self):
        return self._session

    def empty(self):
        return self._redis.llen(self._waiting) == 0 and self._redis.llen(self._processing) == 0

    def lease(self, lease_secs=60, block=True, timeout=None):
        """Returns an item; None if there is none, for timeout seconds if block is set."""
        if block:
            item = self._redis.brpoplpush(self._waiting, self._processing, timeout=timeout)
        else:
            item = self._redis.rpoplpush(self._waiting, self._processing)
        if item:
            self._redis.setex(self._key(item), lease_secs, self._session)
        return item

    def complete(self, item):
        self._redis.lrem(self._processing, 0, item)
        self._redis.delete(self._key(item))

    def _key(self, item):
        return self._lease + hashlib.sha224(item).hexdigest()
