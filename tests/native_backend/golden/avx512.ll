define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) #0 {
entry:
  %d0.p = getelementptr inbounds i64, ptr %dims, i64 0
  %d0 = load i64, ptr %d0.p
  %b0.p = getelementptr inbounds ptr, ptr %args, i64 0
  %b0 = load ptr, ptr %b0.p
  %b1.p = getelementptr inbounds ptr, ptr %results, i64 0
  %b1 = load ptr, ptr %b1.p
  %b2.p = getelementptr inbounds ptr, ptr %results, i64 1
  %b2 = load ptr, ptr %b2.p, !dereferenceable !12
  %0 = sub i64 %d0, 0
  %1 = call i64 @llvm.smax.i64(i64 %0, i64 0)
  %2 = and i64 %1, -16
  %3 = add i64 0, %2
  %4 = icmp slt i64 0, %3
  br i1 %4, label %L1, label %L2
L1:
  %5 = phi i64 [ 0, %entry ], [ %10, %L1 ]
  %6 = getelementptr inbounds float, ptr %b0, i64 %5
  %7 = load <16 x float>, ptr %6, align 4, !alias.scope !7
  %t8.a = fcmp ogt <16 x float> splat (float 0x0000000000000000), %7
  %8 = select <16 x i1> %t8.a, <16 x float> splat (float 0x0000000000000000), <16 x float> %7
  %9 = getelementptr inbounds float, ptr %b1, i64 %5
  store <16 x float> %8, ptr %9, align 4, !alias.scope !8, !noalias !9
  %10 = add nsw i64 %5, 16
  %11 = icmp slt i64 %10, %3
  br i1 %11, label %L1, label %L2, !llvm.loop !10
L2:
  %12 = icmp slt i64 %3, %d0
  br i1 %12, label %L3, label %L4
L3:
  %13 = sub i64 %d0, %3
  %14 = call i64 @llvm.smin.i64(i64 %13, i64 16)
  %15 = trunc i64 %14 to i8
  %16 = insertelement <16 x i8> poison, i8 %15, i64 0
  %17 = shufflevector <16 x i8> %16, <16 x i8> poison, <16 x i32> zeroinitializer
  %18 = icmp ult <16 x i8> <i8 0, i8 1, i8 2, i8 3, i8 4, i8 5, i8 6, i8 7, i8 8, i8 9, i8 10, i8 11, i8 12, i8 13, i8 14, i8 15>, %17
  %19 = getelementptr inbounds float, ptr %b0, i64 %3
  %20 = call <16 x float> @llvm.masked.load.v16f32.p0(ptr %19, i32 4, <16 x i1> %18, <16 x float> zeroinitializer), !alias.scope !7
  %t21.a = fcmp ogt <16 x float> splat (float 0x0000000000000000), %20
  %21 = select <16 x i1> %t21.a, <16 x float> splat (float 0x0000000000000000), <16 x float> %20
  %22 = getelementptr inbounds float, ptr %b1, i64 %3
  call void @llvm.masked.store.v16f32.p0(<16 x float> %21, ptr %22, i32 4, <16 x i1> %18), !alias.scope !8, !noalias !9
  br label %L4
L4:
  br label %L5
L5:
  %23 = phi i64 [ 0, %L4 ], [ %28, %L5 ]
  %24 = phi <8 x float> [ splat (float 0x8000000000000000), %L4 ], [ %27, %L5 ]
  %25 = getelementptr inbounds float, ptr %b1, i64 %23
  %26 = load <8 x float>, ptr %25, align 4, !alias.scope !8, !noalias !9
  %27 = fadd <8 x float> %24, %26
  %28 = add nsw i64 %23, 8
  %29 = icmp slt i64 %28, 96
  br i1 %29, label %L5, label %L6, !llvm.loop !11
L6:
  %30 = getelementptr inbounds float, ptr %b1, i64 96
  %31 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %30, i32 4, <8 x i1> <i1 true, i1 true, i1 true, i1 true, i1 false, i1 false, i1 false, i1 false>, <8 x float> zeroinitializer), !alias.scope !8, !noalias !9
  %32 = fadd <8 x float> %27, %31
  %33 = select <8 x i1> <i1 true, i1 true, i1 true, i1 true, i1 false, i1 false, i1 false, i1 false>, <8 x float> %32, <8 x float> %27
  %34 = shufflevector <8 x float> %33, <8 x float> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %35 = shufflevector <8 x float> %33, <8 x float> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
  %36 = fadd <4 x float> %34, %35
  %37 = shufflevector <4 x float> %36, <4 x float> poison, <2 x i32> <i32 0, i32 1>
  %38 = shufflevector <4 x float> %36, <4 x float> poison, <2 x i32> <i32 2, i32 3>
  %39 = fadd <2 x float> %37, %38
  %40 = shufflevector <2 x float> %39, <2 x float> poison, <1 x i32> <i32 0>
  %41 = shufflevector <2 x float> %39, <2 x float> poison, <1 x i32> <i32 1>
  %42 = fadd <1 x float> %40, %41
  %43 = extractelement <1 x float> %42, i64 0
  %44 = fadd float 0x0000000000000000, %43
  store float %44, ptr %b2, align 4, !alias.scope !13, !noalias !14
  ret i32 0
}

attributes #0 = { nounwind alignstack=64 }
attributes #1 = { noinline nounwind alignstack=64 }
attributes #2 = { nofree norecurse nosync nounwind willreturn memory(none) }
attributes #3 = { nounwind }
attributes #4 = { alwaysinline nofree norecurse nosync nounwind willreturn memory(none) }
attributes #5 = { noinline nofree norecurse nosync nounwind willreturn memory(none) }

!0 = !{!"branch_weights", i32 1, i32 1048576}
!1 = !{!"llvm.loop.mustprogress"}
!2 = !{i32 1}
!3 = distinct !{!3}
!4 = distinct !{!4, !3}
!5 = distinct !{!5, !3}
!6 = distinct !{!6, !3}
!7 = !{!4}
!8 = !{!5}
!9 = !{!4}
!10 = distinct !{!10, !1}
!11 = distinct !{!11, !1}
!12 = !{i64 4}
!13 = !{!6}
!14 = !{!4, !5}
