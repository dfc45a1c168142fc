-- Puts a job into a queue. ARGV: the job, as put.lua takes it. Returns whether it was put there.
return put_job(ARGV)
