import random, asyncio, time
from collections import defaultdict
from made_up_web import *
import frontier_checks
from frontier_checks import Ledgers, VIOLATIONS
import asyncpg
async def test_x(crawler_pool):
    T=defaultdict(lambda:[0,0.0])
    for cls in (asyncpg.Connection,):
        for name in ("fetch","fetchval","fetchrow","execute"):
            orig=getattr(cls,name)
            async def f(self, q, *a, _o=orig, **k):
                t=time.time()
                try: return await _o(self,q,*a,**k)
                finally:
                    e=T[" ".join(q.split())[:70]]; e[0]+=1; e[1]+=time.time()-t
            setattr(cls,name,f)
    t0=time.time(); steps=0
    for n in range(4):
        rng = random.Random(n)
        web = random_web(rng, pages=20, hosts=[f"{h}.w{n}.test" for h in range(3)])
        deps = crawler_deps(crawler_pool)
        job=await start(deps, *sorted(web)[:3], job_id=random_id(rng))
        L=Ledgers(crawler_pool) if n==0 else L
        c=Chance(rng, crawler_pool, web)
        for _ in range(60):
            await c.step(); await L.check(); steps+=1
    print("TOTAL",time.time()-t0,steps)
    for q,(n,s) in sorted(T.items(), key=lambda x:-x[1][1])[:16]: print(f"{s:.2f}s n={n} {s/n*1000:.1f}ms {q}")
